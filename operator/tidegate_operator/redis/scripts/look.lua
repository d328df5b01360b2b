#!lua flags=no-writes
-- KEYS[1] stream; ARGV: the gateway's group, most bytes of an entry, most consumers.
-- For a stream of which something may be too large to carry as it is; behind the gateway's cutting.lua. Returns {greatest
-- id, newest entry's id or '', its fields, 0 or its size if that is not all of them, length, group or nil}, or nil when
-- there is no stream.
-- A group is {last id that it was given, lag or -1, pending, 1 if these are all consumers, then of each: name, pending, idle in ms}.
local key = KEYS[1]
local info = inspect(key)
if not info then return false end
local id, fields, size = '', false, 0
local entry = info['last-entry']
if entry then
  local entries = {entry}
  cut(entries, tonumber(ARGV[2]))
  id, fields, size = entry[1], entries[1][2], entries[1][3] or 0
end
local found, ours = group_of(key, ARGV[1]), false
if found then
  local all, most = consumers_of(key, ARGV[1]), tonumber(ARGV[3])
  ours = {found['last-delivered-id'], found.lag or -1, found.pending, #all > most and 0 or 1}
  for i = 1, math.min(#all, most) do
    local consumer = named(all[i])
    ours[#ours + 1] = consumer.name
    ours[#ours + 1] = consumer.pending
    ours[#ours + 1] = consumer.idle
  end
end
return {info['last-generated-id'], id, fields, size, info.length, ours}
