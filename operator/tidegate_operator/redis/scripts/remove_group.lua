#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: the gateway's group, position and newest entry's id ('' = none) that the
-- stream was judged by.
-- Returns what happened. A replica that comes later makes the group again, at the stream's end.
local key, group = KEYS[1], ARGV[1]
local info = inspect(key)
if not info then return 'gone' end
if not is_same(info, ARGV[2], ARGV[3]) then return 'changed' end
local found = group_of(key, group)
if not found then return 'gone' end
if subscribers(key) > 0 or found.consumers > 0 or found.pending > 0 then return 'watched' end
redis.call('XGROUP', 'DESTROY', key, group)
return 'done'
