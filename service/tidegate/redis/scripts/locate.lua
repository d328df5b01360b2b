#!lua flags=no-writes
-- KEYS[1] stream; ARGV: n (-1 = all), from where downwards ('+', or what the step before returned), most entries and
-- bytes of this step.
-- Returns {info or nil, id of the entry just before the newest n, or '' if there is none or it is not reached yet, n of
-- the next step, from where that begins, or '' when this was the last}.
local info = inspect(KEYS[1])
if not info then return {false, '', 0, ''} end
local left, to, steps, bytes = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
-- All of them, and that without looking.
if left < 0 or (to == '+' and left >= tonumber(info[3])) then return {info, '', 0, ''} end
while true do
  local got = redis.call('XREVRANGE', KEYS[1], to, '-', 'COUNT', math.min(CHUNK, left + 1))
  if #got == 0 then return {info, '', 0, ''} end
  if #got > left then return {info, got[left + 1][1], 0, ''} end
  left, steps = left - #got, steps - #got
  for i = 1, #got do
    local fields = got[i][2]
    for j = 1, #fields do bytes = bytes - #fields[j] end
  end
  to = '(' .. got[#got][1]
  if steps <= 0 or bytes <= 0 then return {info, '', left, to} end
end
