#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: the gateway's group and its mark. For a gateway that is gone: its group goes whatever the
-- stream is. A mark tells our TTL from that of others, so it stays where there is one, and goes with the stream.
-- Returns what happened.
local key, group, mark = KEYS[1], ARGV[1], ARGV[2]
if not inspect(key) then return 'gone' end
if subscribers(key) > 0 then return 'watched' end
local dropped = redis.call('XGROUP', 'DESTROY', key, group)
if redis.call('PEXPIRETIME', key) < 0 then dropped = dropped + redis.call('XGROUP', 'DESTROY', key, mark) end
return dropped > 0 and 'done' or 'gone'
