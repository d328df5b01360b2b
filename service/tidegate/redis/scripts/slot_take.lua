#!lua
-- Own arguments: connection, limit, 1 to take the place of the oldest when full.
-- Returns {1 if taken, the user's count, since, connections and incarnations that lost their slot}.
local connection, limit, replace = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2] == '1'
local left, count = living()
local own, victims = left[connection], {}
local since = own and own[2] or now_ms()
if not own then
  if count >= limit then
    if not replace then return {0, count, 0, victims} end
    local oldest = {}
    for id, slot in pairs(left) do oldest[#oldest + 1] = {slot[2], id, slot[1]} end
    table.sort(oldest, function(a, b)
      if a[1] ~= b[1] then return a[1] < b[1] end
      return a[2] < b[2]
    end)
    for i = 1, count - limit + 1 do
      redis.call('HDEL', key, oldest[i][2])
      victims[#victims + 1] = oldest[i][2]
      victims[#victims + 1] = oldest[i][3]
    end
    count = limit - 1
  end
  count = count + 1
end
put(connection, since)
redis.call('PEXPIRE', key, ttl)
return {1, count, since, victims}
