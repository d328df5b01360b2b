#!lua
-- KEYS[1] stream, KEYS[2] key beside it.
-- ARGV: group, consumer, max entries, max bytes, max bytes of one entry (all for dispatch), relay channel ('' = the stream's
-- name), id of the newest entry that the caller has read, TTL of the key in s, statuses and types that end an operation (each
-- with spaces between), most entries that may be newer than what the caller has read, text of the entry.
-- Asks to cancel an operation that was running when the caller looked. Returns {outcome, id}: 'added', 'known' (somebody has
-- asked before), 'moved' (it may have ended since: read again), 'missing' (no stream).
local key, beside = KEYS[1], KEYS[2]
channel = ARGV[6] or ''
if redis.call('EXISTS', key) == 0 then
  redis.call('UNLINK', beside)
  return {'missing', ''}
end
local words, most = words_of(ARGV[9], ARGV[10]), tonumber(ARGV[11])
-- What may be an end is for the caller to tell. A busy operation must not be in the way of its own end, so the rest passes.
local newer = redis.call('XRANGE', key, '(' .. ARGV[7], '+', 'COUNT', most + 1)
if #newer > most then return {'moved', ''} end
for i = 1, #newer do
  for j = 1, #newer[i][2] do
    local text = newer[i][2][j]
    -- A word may be written with escapes, too.
    if has_one(text, words) or string.find(text, '\\u', 1, true) then return {'moved', ''} end
  end
end
local before = asked(key, beside, words)
if before ~= '' then return {'known', before} end
local id = redis.call('XADD', key, '*', 'message', ARGV[12])
redis.call('SET', beside, id, 'EX', tonumber(ARGV[8]))
spread(key, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], {{id, {'message', ARGV[12]}}})
return {'added', id}
