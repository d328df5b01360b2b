#!lua
-- KEYS[1] hash beside a stream: part -> its fraction. ARGV: part, fraction, most parts kept, TTL in s.
-- A part never goes back: a worker that is late, or runs again, changes nothing.
-- Returns {sum of the fractions as a text, parts that are complete}.
local part, fraction = ARGV[1], tonumber(ARGV[2])
local known = tonumber(redis.call('HGET', KEYS[1], part) or '-1')
if fraction > known and (known >= 0 or redis.call('HLEN', KEYS[1]) < tonumber(ARGV[3])) then
  redis.call('HSET', KEYS[1], part, ARGV[2])
  redis.call('EXPIRE', KEYS[1], tonumber(ARGV[4]))
end
local sum, complete = 0, 0
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  local value = tonumber(text) or 0
  sum = sum + value
  if value >= 1 then complete = complete + 1 end
end
return {string.format('%.9f', sum), complete}
