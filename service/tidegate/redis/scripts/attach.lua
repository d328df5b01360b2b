#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: group, pod, max entries, max bytes, max bytes of one entry, after ('' = newest), newest count,
-- relay channel ('' = the stream's name), max bytes of the answer.
-- Makes the group at the stream's end if it is missing, dispatches what waits, registers the consumer.
-- Returns {info or nil, entries, 1 if they are too large for this answer (then it has none), 1 if the consumer was not
-- there}.
local key, group, pod = KEYS[1], ARGV[1], ARGV[2]
channel = ARGV[8] or ''
local max_entries, max_bytes, max_entry_bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local whole_bytes = tonumber(ARGV[9])
if redis.call('EXISTS', key) == 0 then return {false, {}, 0, 0} end
local made = redis.pcall('XGROUP', 'CREATE', key, group, '$')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
-- Before anything is read: a read would make the consumer, too.
local registered = redis.call('XGROUP', 'CREATECONSUMER', key, group, pod)
if made.err then
  local done = dispatch(key, group, pod, max_entries, max_bytes, max_entry_bytes)
  if done.err then return done end
else
  relay(key, pod, 2, {}, 0)
end
local info, entries, beyond = inspect(key), nil, nil
if ARGV[6] == '' then
  entries, beyond = whole_newest(key, tonumber(ARGV[7]), whole_bytes, max_entry_bytes)
else
  entries, beyond = whole_after(key, ARGV[6], max_entries, whole_bytes, max_entry_bytes)
end
return {info, entries, beyond, registered}
