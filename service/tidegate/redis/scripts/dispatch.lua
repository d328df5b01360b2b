#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: group, pod, max entries, max bytes, max bytes of one entry, relay channel ('' = the stream's name).
-- Returns {entries dispatched, id of the stream's newest entry or '', how many entries are left}.
channel = ARGV[6] or ''
return dispatch(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
