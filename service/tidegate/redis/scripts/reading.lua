-- Reads pages of a stream; behind common.lua.

-- Entries above `after` ('-' for all), bounded; two at least, as the first may be one that the caller has. Returns the
-- entries and whether more are left.
local function read_after(key, after, count, max_bytes, max_entry_bytes)
  local found, size, chunk = {}, 0, FIRST_CHUNK
  local from = after == '-' and '-' or '(' .. after
  while #found < count do
    local want = math.min(chunk, count - #found)
    local got = redis.call('XRANGE', key, from, '+', 'COUNT', want)
    for i = 1, #got do
      size = size + cut_one(got, i, max_entry_bytes)
      found[#found + 1] = got[i]
      if size >= max_bytes and #found > 1 then return found, 1 end
    end
    if #got < want then return found, 0 end
    from, chunk = '(' .. got[#got][1], math.min(2 * chunk, CHUNK)
  end
  return found, 1
end

-- The newest entries in their order, one at least, bounded. Returns them and whether `count` were not to be had for the
-- size.
local function read_newest(key, count, max_bytes, max_entry_bytes)
  local newest_first, size, to, chunk, cut_off = {}, 0, '+', FIRST_CHUNK, 0
  while #newest_first < count and cut_off == 0 do
    local want = math.min(chunk, count - #newest_first)
    local got = redis.call('XREVRANGE', key, to, '-', 'COUNT', want)
    for i = 1, #got do
      size = size + cut_one(got, i, max_entry_bytes)
      if size > max_bytes and #newest_first > 0 then
        cut_off = 1
        break
      end
      newest_first[#newest_first + 1] = got[i]
    end
    if #got < want then break end
    to, chunk = '(' .. got[#got][1], math.min(2 * chunk, CHUNK)
  end
  local found = {}
  for i = #newest_first, 1, -1 do found[#found + 1] = newest_first[i] end
  return found, cut_off
end
