#!lua
-- KEYS[1] the list (zset: revocation -> its end in s). ARGV: how long it is kept in s, the most that are kept, the revocation.
-- What has ended goes first. Said again, it is kept anew. Returns 1, or 0 when the list is full.
local list, keep, most, revocation = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
if not redis.call('ZSCORE', list, revocation) and redis.call('ZCARD', list) >= most then return 0 end
redis.call('ZADD', list, now + keep, revocation)
local last = redis.call('ZREVRANGE', list, 0, 0, 'WITHSCORES')
redis.call('EXPIREAT', list, tonumber(last[2]) + 1)
return 1
