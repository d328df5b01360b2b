#!lua
-- KEYS[1] stream; with an idempotency field also KEYS[2] (hash: field -> digest and ids) and KEYS[3] (list: fields, newest first);
-- last the key that says that somebody asks to cancel the operation, where the entries end it.
-- ARGV: group, consumer, max entries, max bytes, max bytes of one entry (all for dispatch), cap (0 = none), TTL in s (0 = none),
-- id that the stream's newest entry must have ('*' = any), 1 = remove the stream behind the last entry,
-- 2 = the operation ends with the last entry, 0 = neither,
-- idempotency field ('' = none), digest of the request, most fields kept, TTL of the fields in s,
-- relay channel ('' = the stream's name), then one text per entry.
-- Appends all of them and dispatches at once. Returns {outcome, ids...}: 'added', 'known' (appended by an earlier call with this field),
-- 'differs' (the field was used for another request), 'moved' (the newest entry is another one).
local key, cap, ttl, field, digest = KEYS[1], ARGV[6], tonumber(ARGV[7]), ARGV[10], ARGV[11]
if field ~= '' then
  local before = redis.call('HGET', KEYS[2], field)
  if before then
    local known = cmsgpack.unpack(before)
    if known[1] ~= digest then return {'differs'} end
    known[1] = 'known'
    return known
  end
end
if ARGV[8] ~= '*' then
  local info = inspect(key)
  if (info and info[2] or '') ~= ARGV[8] then return {'moved'} end
end
local done, entries = {'added'}, {}
channel = ARGV[14] or ''
for i = 15, #ARGV do
  local id
  if cap == '0' then
    id = redis.call('XADD', key, '*', 'message', ARGV[i])
  else
    id = redis.call('XADD', key, 'MAXLEN', '~', cap, '*', 'message', ARGV[i])
  end
  done[#done + 1] = id
  entries[#entries + 1] = {id, {'message', ARGV[i]}}
end
if ttl > 0 then redis.call('EXPIRE', key, ttl) end
if field ~= '' then
  done[1] = digest
  redis.call('HSET', KEYS[2], field, cmsgpack.pack(done))
  done[1] = 'added'
  redis.call('LPUSH', KEYS[3], field)
  while redis.call('LLEN', KEYS[3]) > tonumber(ARGV[12]) do redis.call('HDEL', KEYS[2], redis.call('RPOP', KEYS[3])) end
  redis.call('EXPIRE', KEYS[2], tonumber(ARGV[13]))
  redis.call('EXPIRE', KEYS[3], tonumber(ARGV[13]))
end
spread(key, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], entries)
-- What was asked of this run is not meant for the next one.
if ARGV[9] ~= '0' then redis.call('UNLINK', KEYS[#KEYS]) end
if ARGV[9] == '1' then redis.call('UNLINK', key) end
return done
