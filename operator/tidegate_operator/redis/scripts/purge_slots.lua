#!lua flags=allow-oom
-- KEYS[1] a user's slots (hash: connection -> '<incarnation> <since>'); ARGV: incarnations that are dead, for ever.
-- Returns how many slots were left over.
local key, dead, count = KEYS[1], {}, 0
if redis.call('TYPE', key).ok ~= 'hash' then return 0 end
for i = 1, #ARGV do dead[ARGV[i]] = true end
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local incarnation = string.match(all[i + 1], '^(%S+) %d+$')
  if incarnation and dead[incarnation] then count = count + redis.call('HDEL', key, all[i]) end
end
return count
