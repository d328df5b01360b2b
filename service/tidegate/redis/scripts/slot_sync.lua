#!lua
-- Own arguments: a time in ms, then for each connection that the caller has: connection, limit, since (0 = unknown).
-- Makes the hash agree with the caller: what is missing is put back where the limit allows, what it should not
-- have any more (a take or a release whose reply was lost) is dropped, unless it is younger than the time given:
-- then it may be a take that is just on its way. Returns the connections that are above the limit.
local settled = tonumber(ARGV[FIRST])
local left, count = living()
local wanted, above = {}, {}
for i = FIRST + 1, #ARGV, 3 do wanted[ARGV[i]] = true end
for id, slot in pairs(left) do
  if slot[1] == mine and not wanted[id] and slot[2] < settled then
    redis.call('HDEL', key, id)
    left[id] = nil
    count = count - 1
  end
end
for i = FIRST + 1, #ARGV, 3 do
  local id, limit, since = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if left[id] then
    -- Unless this call is late, and its caller has lapsed and come back meanwhile.
    if birth(left[id][1]) <= birth(mine) then put(id, left[id][2]) end
  elseif count < limit then
    put(id, since > 0 and since or now_ms())
    count = count + 1
  else
    above[#above + 1] = id
  end
end
if #ARGV > FIRST then redis.call('PEXPIRE', key, ttl) end
return above
