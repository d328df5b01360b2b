#!lua
-- KEYS: the pods' leases (zset: incarnation -> expiry in ms), their clock (hash).
-- ARGV: lease in ms, the caller's incarnation ('' = none yet), its pod name, a token that no incarnation has yet.
-- Extends the caller's lease, or gives it a new incarnation when there is none to extend: a lapsed one is never
-- revived. Run again after a lost reply it finds what it made by the token.
-- Returns {incarnation, order, now in ms, 1 if others may be taken for dead by this view, live incarnations}.
--
-- `order` numbers the calls: at least the time, and always growing, also when the server's clock steps back. An
-- incarnation carries the order of its birth, so it is younger than a view exactly if its number is not below.
local pods, clock = KEYS[1], KEYS[2]
local lease, mine, name, token = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local kept = redis.call('HMGET', clock, 'since', 'last', 'order')
local since, last = tonumber(kept[1]), tonumber(kept[2])
local order = math.max(now, (tonumber(kept[3]) or 0) + 1)
-- A missing pod proves nothing when the leases were lost, or when nobody at all renewed for a lease: Redis may have
-- been away, or its clock jumped. Then everybody gets one lease to come back before anybody is taken for dead.
if not since or since > now or (last and now - last > lease) then since = now end

local found, again, live = false, false, {}
local all = redis.call('ZRANGE', pods, 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  local id, expiry = all[i], tonumber(all[i + 1])
  if expiry > now + 4 * lease then -- the clock stepped back: nobody's lease is that long
    expiry = now + lease
    redis.call('ZADD', pods, expiry, id)
  end
  if expiry <= now then
    redis.call('ZREM', pods, id)
  elseif id == mine then
    found = id
  elseif string.sub(id, -#token - 1) == '.' .. token then
    again = id
  else
    live[#live + 1] = id
  end
end
local member = found or again or string.format('%s.%d.%s', name, order, token)
live[#live + 1] = member
redis.call('ZADD', pods, now + lease, member)
redis.call('HSET', clock, 'since', since, 'last', now, 'order', order)
return {member, order, now, now - since >= lease and 1 or 0, live}
