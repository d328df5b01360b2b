-- Reads pages of a stream; behind common.lua.

-- How large entries are shows only once they are read: 32 may be 8 MB, of which a page takes one.
local FIRST_CHUNK = 4

-- Entries above `after` ('-' for all), bounded: the first in any case, and then none that goes
-- beyond `max_bytes`. Returns the entries and whether more are left.
local function read_after(key, after, count, max_bytes, max_entry_bytes)
  local found, size = {}, 0
  local from = after == '-' and '-' or '(' .. after
  local chunk = FIRST_CHUNK
  while #found < count do
    local want = math.min(chunk, count - #found)
    local got = redis.call('XRANGE', key, from, '+', 'COUNT', want)
    for _, entry in ipairs(got) do
      local one = {entry}
      local bytes = cut(one, max_entry_bytes)
      if #found > 0 and size + bytes > max_bytes then return found, 1 end
      found[#found + 1], size = one[1], size + bytes
    end
    if #got < want then return found, 0 end
    from = '(' .. got[#got][1]
    -- As many as still fit, if they go on like this.
    chunk = math.max(1, math.min(CHUNK, math.floor((max_bytes - size) * #found / math.max(size, 1))))
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
