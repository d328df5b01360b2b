#!lua flags=no-writes
-- KEYS: the pods' leases, their clock. Returns {now in ms, since, last, order (nil where unknown), incarnation, expiry...}.
local time = redis.call('TIME')
local kept = redis.call('HMGET', KEYS[2], 'since', 'last', 'order')
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local reply = {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), kept[1], kept[2], kept[3]}
for i = 1, #all do reply[#reply + 1] = all[i] end
return reply
