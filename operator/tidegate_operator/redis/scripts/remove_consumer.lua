#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: group, consumer of a dead pod, heir ('' = none), entries at a time, times, ms for which it must not
-- have read. What it has pending goes to the heir, or is acknowledged where nobody is left to deliver it: with the
-- consumer it would be dropped silently. The gateway leaves nothing pending; others that read with its group may.
-- Returns what happened.
local key, group, name, heir, batch = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local found, inherits = false, false
for _, row in ipairs(consumers_of(key, group)) do
  local by = named(row)
  if by.name == name then found = by end
  if by.name == heir then inherits = true end
end
if not found then return 'gone' end
if found.idle < tonumber(ARGV[6]) then return 'fresh' end
for _ = 1, tonumber(ARGV[5]) do
  local pending = redis.call('XPENDING', key, group, '-', '+', batch, name)
  if #pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', key, group, name)
    return 'done'
  end
  local ids = {}
  for i = 1, #pending do ids[i] = pending[i][1] end
  if inherits then
    ids[#ids + 1] = 'JUSTID' -- leaves the delivery count alone; entries that were trimmed are dropped (7.0)
    redis.call('XCLAIM', key, group, heir, 0, unpack(ids))
  else
    redis.call('XACK', key, group, unpack(ids))
  end
end
return 'more'
