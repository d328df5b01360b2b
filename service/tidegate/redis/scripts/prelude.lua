-- Shared by all scripts. One chunk of entries is read at a time, so that a bound in bytes can hold.
local CHUNK = 32

-- Entries too large to carry become {id, size}. Returns the bytes that are left.
local function cut(entries, max_entry_bytes)
  local total = 0
  for i = 1, #entries do
    local entry, size = entries[i], 0
    local fields = entry[2]
    for j = 1, #fields do size = size + #fields[j] end
    if size > max_entry_bytes then
      entries[i] = {entry[1], size}
      size = 32
    end
    total = total + size
  end
  return total
end

-- {first id, last-generated id, length, entries-added, greatest id that was deleted by XDEL}, or false when there is
-- no stream.
local function inspect(key)
  if redis.call('EXISTS', key) == 0 then return false end
  local reply = redis.call('XINFO', 'STREAM', key)
  local by = {}
  for i = 1, #reply, 2 do by[reply[i]] = reply[i + 1] end
  return {by['recorded-first-entry-id'], by['last-generated-id'], by['length'], by['entries-added'],
    by['max-deleted-entry-id']}
end

-- Entries above `after` ('-' for all), bounded. Returns the entries and whether more are left.
local function read_after(key, after, count, max_bytes, max_entry_bytes)
  local found, size = {}, 0
  local from = after == '-' and '-' or '(' .. after
  while #found < count and size < max_bytes do
    local want = math.min(CHUNK, count - #found)
    local got = redis.call('XRANGE', key, from, '+', 'COUNT', want)
    size = size + cut(got, max_entry_bytes)
    for _, entry in ipairs(got) do found[#found + 1] = entry end
    if #got < want then return found, 0 end
    from = '(' .. got[#got][1]
  end
  return found, 1
end

-- The newest entries in their order, bounded.
local function read_newest(key, count, max_bytes, max_entry_bytes)
  local newest_first, size, to = {}, 0, '+'
  while #newest_first < count and size < max_bytes do
    local want = math.min(CHUNK, count - #newest_first)
    local got = redis.call('XREVRANGE', key, to, '-', 'COUNT', want)
    size = size + cut(got, max_entry_bytes)
    for _, entry in ipairs(got) do newest_first[#newest_first + 1] = entry end
    if #got < want then break end
    to = '(' .. got[#got][1]
  end
  local found = {}
  for i = #newest_first, 1, -1 do found[#found + 1] = newest_first[i] end
  return found
end

-- Relay to every replica that watches. `previous` is '' when no entry comes before (any more); then `added` tells
-- how many were ever added, which can prove the same.
local function relay(key, pod, created, entries)
  local previous, added = '', false
  if #entries > 0 then
    local before = redis.call('XREVRANGE', key, '(' .. entries[1][1], '-', 'COUNT', 1)
    if before[1] then
      previous = before[1][1]
    else
      added = inspect(key)[4]
    end
  end
  redis.call('SPUBLISH', key, cmsgpack.pack({pod, previous, created, entries, added}))
end

-- How many entries the group has not read; 1 when the server cannot tell (deleted entries, an id set by hand).
local function lag(key, group)
  local groups = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #groups do
    local by = {}
    for j = 1, #groups[i], 2 do by[groups[i][j]] = groups[i][j + 1] end
    if by['name'] == group then return math.max(1, tonumber(by['lag'] or 1) or 1) end
  end
  return 1
end

-- The dispatch duty: read what the group has not seen yet and relay it. Returns {count, newest id, more}; `more` is
-- about how many are left, and 0 when none is.
local function dispatch(key, group, pod, max_entries, max_bytes, max_entry_bytes)
  local batch, size, created, more = nil, 0, 0, 0
  local want = math.min(CHUNK, max_entries)
  while true do
    local reply = redis.pcall(
      'XREADGROUP', 'GROUP', group, pod, 'COUNT', want, 'NOACK', 'STREAMS', key, '>')
    if reply and reply.err then
      if created == 1 or not string.find(reply.err, 'NOGROUP', 1, true) then return reply end
      if redis.call('EXISTS', key) == 0 then return {0, '', 0} end
      redis.call('XGROUP', 'CREATE', key, group, '0')
      created = 1
    elseif not reply then
      break
    else
      local got = reply[1][2]
      size = size + cut(got, max_entry_bytes)
      if not batch then
        batch = got
      else
        for i = 1, #got do batch[#batch + 1] = got[i] end
      end
      if #got < want then break end
      want = math.min(CHUNK, max_entries - #batch)
      if want == 0 or size >= max_bytes then
        more = lag(key, group)
        break
      end
    end
  end
  if batch or created == 1 then relay(key, pod, created, batch or {}) end
  if batch then return {#batch, batch[#batch][1], more} end
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  return {0, newest[1] and newest[1][1] or '', 0}
end
