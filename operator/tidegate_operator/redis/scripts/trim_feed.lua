#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: position and newest entry's id that it was judged by, entries to keep, time in ms before which none is
-- kept, most entries to remove now, the gateway's group, our mark.
-- Returns what happened and how many entries went.
local key, keep, most = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[5])
local info = inspect(key)
if not info then return {'gone', 0} end
if not is_same(info, ARGV[1], ARGV[2]) then return {'changed', 0} end
if is_foreign(key, ARGV[6], ARGV[7], ARGV[1]) then return {'foreign', 0} end
local over = info.length - keep
if over > most then return {'more', redis.call('XTRIM', key, 'MAXLEN', '~', keep, 'LIMIT', most)} end
local trimmed = over > 0 and redis.call('XTRIM', key, 'MAXLEN', '=', keep) or 0
return {'done', trimmed + redis.call('XTRIM', key, 'MINID', '=', ARGV[4])}
