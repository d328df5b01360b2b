#!lua flags=no-writes
-- KEYS[1] stream; ARGV: n (-1 = all). Returns {info or nil, id of the entry just before the newest n, or '' if there is none}.
local info = inspect(KEYS[1])
if not info then return {false, ''} end
local left, to = tonumber(ARGV[1]), '+'
if left < 0 then return {info, ''} end
while true do
  local got = redis.call('XREVRANGE', KEYS[1], to, '-', 'COUNT', math.min(CHUNK, left + 1))
  if #got == 0 then return {info, ''} end
  if #got > left then return {info, got[left + 1][1]} end
  left = left - #got
  to = '(' .. got[#got][1]
end
