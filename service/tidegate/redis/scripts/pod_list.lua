#!lua flags=no-writes
-- KEYS: the pods' leases. Returns the live incarnations, each followed by what is left of its lease in ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all, found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
  local left = tonumber(all[i + 1]) - now
  if left > 0 then
    found[#found + 1] = all[i]
    found[#found + 1] = left
  end
end
return found
