#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: our mark, the position and the expiry noted in it when it was judged to run again.
-- Takes our own expiry back. One that a publisher has set since stays, and one that we set since for a newer end.
local key, mark = KEYS[1], ARGV[1]
if redis.call('EXISTS', key) == 0 then return 'gone' end
local noted = group_of(key, mark)
if not noted or noted['last-delivered-id'] ~= ARGV[2] or noted['entries-read'] ~= tonumber(ARGV[3]) then return 'changed' end
if redis.call('PEXPIRETIME', key) ~= tonumber(ARGV[3]) then return 'changed' end
redis.call('PERSIST', key)
redis.call('XGROUP', 'DESTROY', key, mark)
return 'done'
