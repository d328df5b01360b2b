-- Reads pages of a stream; behind common.lua.

-- Entries above `after` ('-' for all), bounded. Returns the entries and whether more are left.
local function read_after(key, after, count, max_bytes, max_entry_bytes)
  local found, size = {}, 0
  local from = after == '-' and '-' or '(' .. after
  while #found < count and size < max_bytes do
    local want = math.min(CHUNK, count - #found)
    local got = redis.call('XRANGE', key, from, '+', 'COUNT', want)
    size = size + cut(got, max_entry_bytes)
    for _, entry in ipairs(got) do found[#found + 1] = entry end
    if #got < want then return found, 0 end
    from = '(' .. got[#got][1]
  end
  return found, 1
end

-- The newest entries in their order, bounded.
local function read_newest(key, count, max_bytes, max_entry_bytes)
  local newest_first, size, to = {}, 0, '+'
  while #newest_first < count and size < max_bytes do
    local want = math.min(CHUNK, count - #newest_first)
    local got = redis.call('XREVRANGE', key, to, '-', 'COUNT', want)
    size = size + cut(got, max_entry_bytes)
    for _, entry in ipairs(got) do newest_first[#newest_first + 1] = entry end
    if #got < want then break end
    to = '(' .. got[#got][1]
  end
  local found = {}
  for i = #newest_first, 1, -1 do found[#found + 1] = newest_first[i] end
  return found
end
