#!lua flags=allow-oom
-- KEYS: the pods' leases, their clock. Takes both away. Returns how many there were, or -1 and nothing is changed
-- when a pod has a lease.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] and tonumber(last[2]) > now then return -1 end
return redis.call('UNLINK', KEYS[1], KEYS[2])
