#!lua
-- KEYS[1] a stream that is followed no longer; ARGV: group.
-- Redis remembers for each name that a tracking connection has read that this connection is to be told, until the name is
-- written to: for a name that nobody ever writes to, for ever, also when the connection is gone. So a name without a
-- stream is written to, and gone again in the same step. Returns 1 if that was done.
local key = KEYS[1]
if redis.call('EXISTS', key) == 1 then return 0 end
-- Nothing to unlink yet: it tells whether it may be done.
if type(redis.pcall('UNLINK', key)) == 'table' then return 0 end
redis.call('XGROUP', 'CREATE', key, ARGV[1], '$', 'MKSTREAM')
redis.call('UNLINK', key)
return 1
