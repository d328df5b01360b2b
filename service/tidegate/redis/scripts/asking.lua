-- Whether somebody has asked to cancel an operation: a key beside its stream holds the id of the entry that says so.

-- Most entries behind that one that are looked at, each time somebody asks.
local LOOKED_AT = 1000

-- What ends an operation, from a text of statuses and types with spaces between: by status, by type, and all of them.
local function words_of(statuses, types)
  local words = {statuses = {}, types = {}, all = {}}
  for word in string.gmatch(statuses, '[^ ]+') do
    words.statuses[word] = true
    words.all[#words.all + 1] = word
  end
  for word in string.gmatch(types, '[^ ]+') do
    words.types[word] = true
    words.all[#words.all + 1] = word
  end
  return words
end

-- Whether one of the words is in a text.
local function has_one(text, words)
  for i = 1, #words.all do
    if string.find(text, words.all[i], 1, true) then return true end
  end
  return false
end

-- Whether an entry ends an operation. Python reads every entry, also a broken one (model/entries.py); here it is enough to
-- know those that a parser understands.
local function ends(fields, words)
  local by = {}
  for i = 1, #fields, 2 do by[fields[i]] = fields[i + 1] end
  if by['message'] then
    if not has_one(by['message'], words) then return false end
    local read, message = pcall(cjson.decode, by['message'])
    if not read or type(message) ~= 'table' then return false end
    by = type(message['data']) == 'table' and message['data'] or message
    by = {type = message['type'], status = by['status']}
  end
  return words.types[by['type'] or ''] or words.statuses[by['status'] or ''] or false
end

-- The id of the entry that asks, or '' when nobody has, or only of a run of the operation that is over: it has ended since,
-- or its stream was made anew.
local function asked(key, beside, words)
  local id = redis.pcall('GET', beside)
  if type(id) ~= 'string' or not string.find(id, '^%d+%-%d+$') or redis.call('EXISTS', key) == 0 then return '' end
  local newer = redis.pcall('XRANGE', key, '(' .. id, '+', 'COUNT', LOOKED_AT)
  if newer.err then return '' end -- a number that is too large
  for i = 1, #newer do
    if ends(newer[i][2], words) then return '' end
  end
  if #redis.call('XRANGE', key, id, id) == 0 then
    -- Trimmed away, or another stream: that one has all that was ever added to it.
    local info = inspect(key)
    if info[3] == info[4] then return '' end
  end
  return id
end
