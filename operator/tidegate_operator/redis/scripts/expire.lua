#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: our mark, position and newest entry's id ('' = none) that it was judged by, expiry in ms of the server's
-- time, least ms until then, '1' = only while nobody watches, the gateway's group, its consumers known to be dead.
-- Sets the expiry and notes in the mark what it was judged by, unless an earlier one applies. One of our own that was
-- for an older end applies no more. Returns what happened.
local key, mark, last = KEYS[1], ARGV[1], ARGV[2]
local info = inspect(key)
if not info then return 'gone' end
if not is_same(info, last, ARGV[3]) then return 'changed' end
if is_foreign(key, ARGV[7], mark, last) then return 'foreign' end
if ARGV[6] == '1' then
  if subscribers(key) > 0 then return 'watched' end
  local dead = {}
  for i = 8, #ARGV do dead[ARGV[i]] = true end
  for _, row in ipairs(consumers_of(key, ARGV[7])) do
    if not dead[named(row).name] then return 'watched' end
  end
end
local at = math.max(tonumber(ARGV[4]), now_ms() + tonumber(ARGV[5]))
local current, noted = redis.call('PEXPIRETIME', key), group_of(key, mark)
local outdated = noted and noted['entries-read'] == current and noted['last-delivered-id'] ~= last
if current >= 0 and current <= at and not outdated then return 'sooner' end
local text = string.format('%.0f', at)
redis.call('PEXPIREAT', key, text)
redis.call('XGROUP', noted and 'SETID' or 'CREATE', key, mark, last, 'ENTRIESREAD', text)
return 'done'
