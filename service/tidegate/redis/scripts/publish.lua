#!lua
-- KEYS[1] stream; ARGV: group, pod, max entries, max bytes, max bytes of one entry, cap (0 = none), TTL in s (0 = none),
-- then the entry's fields and values. Appends and dispatches at once. Returns the entry's id.
local key, cap, ttl = KEYS[1], ARGV[6], tonumber(ARGV[7])
local command = {'XADD', key}
if cap ~= '0' then
  for _, word in ipairs({'MAXLEN', '~', cap}) do command[#command + 1] = word end
end
command[#command + 1] = '*'
for i = 8, #ARGV do command[#command + 1] = ARGV[i] end
local id = redis.call(unpack(command))
if ttl > 0 then redis.call('EXPIRE', key, ttl) end
local done = dispatch(key, ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
if done.err then return done end
return id
