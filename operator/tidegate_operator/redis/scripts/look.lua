#!lua flags=no-writes
-- KEYS[1] stream; ARGV: the gateway's group, our mark, most bytes of an entry, most consumers, '1' = tell the memory.
-- Returns {greatest id, newest entry's id or '', its fields or their size, length, expiry in ms or -1, subscribers or -1,
-- bytes, groups of others, what they have pending, mark or nil, group or nil}, or nil when there is no stream.
-- A mark is {position, expiry}; a group {lag or -1, pending, 1 if these are all consumers, then of each name, pending, idle in ms}.
local key = KEYS[1]
local info = inspect(key)
if not info then return false end
local id, fields = '', false
local entry = info['last-entry']
if entry then
  id, fields = entry[1], entry[2]
  local size = 0
  for i = 1, #fields do size = size + #fields[i] end
  if size > tonumber(ARGV[3]) then fields = size end
end
local others, pending, mark, ours = 0, 0, false, false
if info.groups > 0 then
  local groups = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #groups do
    local by = named(groups[i])
    if by.name == ARGV[2] then
      mark = {by['last-delivered-id'], by['entries-read'] or -1}
    elseif by.name == ARGV[1] then
      ours = {by.lag or -1, by.pending, 1}
      if by.consumers > 0 then
        local all, most = consumers_of(key, ARGV[1]), tonumber(ARGV[4])
        if #all > most then ours[3] = 0 end
        for j = 1, math.min(#all, most) do
          local consumer = named(all[j])
          ours[#ours + 1] = consumer.name
          ours[#ours + 1] = consumer.pending
          ours[#ours + 1] = consumer.idle
        end
      end
    else
      others = others + 1
      pending = pending + by.pending
    end
  end
end
local bytes = 0
if ARGV[5] == '1' then bytes = redis.call('MEMORY', 'USAGE', key) or 0 end
return {info['last-generated-id'], id, fields, info.length, redis.call('PEXPIRETIME', key), subscribers(key), bytes,
  others, pending, mark, ours}
