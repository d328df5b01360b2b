-- What is carried of an entry that is too large: type and status wherever they stand, and what else is small. Python
-- reads it like any other entry (model/entries.py), and what is broken in it as well (model/damaged.py).
-- How many brackets and strings this call may look at yet, about 0.2 us each.
local steps = 50000

-- Fields of an entry that is too large, how many bytes they have now, and whether the message is whole: it is all that
-- viewers get of an entry, so nothing is lost then. What it needs is made in here, because a script makes all of its
-- functions anew each time it is called, and this one is hardly ever needed.
local function shorten(fields, max_entry_bytes)
  -- Most bytes of one value that is kept, of all that is kept, and of the end of a text that could not be read through.
  local VALUE, KEEP, TAIL = 512, 4096, 4096
  -- Steps that each entry may take when those of the call are gone.
  local LEAST_STEPS, NEVER = 1000, math.huge
  local keep = 0

  -- The closing quote of the string that begins at `i`; nil when there is none.
  local function string_end(text, i)
    while steps > 0 do
      steps = steps - 1
      i = string.find(text, '"', i + 1, true)
      if not i then return nil end
      local before = i - 1
      while string.byte(text, before) == 92 do before = before - 1 end
      if (i - before) % 2 == 1 then return i end
    end
  end

  -- The last byte of the JSON value that begins at `i`; nil where that cannot be told.
  local function value_end(text, i)
    local first, depth = string.byte(text, i), 0
    if first == 34 then return string_end(text, i) end
    if first ~= 123 and first ~= 91 then
      local stop = string.find(text, '[,%]}%s]', i)
      return stop and stop - 1
    end
    -- Where the next of each is: to look for one byte costs a hundredth of looking for any of a set.
    local quote, brace, bracket, brace_end, bracket_end = 0, 0, 0, 0, 0
    while steps > 0 do
      steps = steps - 1
      if quote < i then quote = string.find(text, '"', i, true) or NEVER end
      if brace < i then brace = string.find(text, '{', i, true) or NEVER end
      if bracket < i then bracket = string.find(text, '[', i, true) or NEVER end
      if brace_end < i then brace_end = string.find(text, '}', i, true) or NEVER end
      if bracket_end < i then bracket_end = string.find(text, ']', i, true) or NEVER end
      i = math.min(quote, brace, bracket, brace_end, bracket_end)
      if i == NEVER then return nil end
      if i == quote then
        i = string_end(text, i)
        if not i then return nil end
      elseif i == brace or i == bracket then
        depth = depth + 1
      else
        depth = depth - 1
        if depth == 0 then return i end
      end
      i = i + 1
    end
  end

  -- Ends an object behind the last member that was kept.
  local function close(kept, bracket)
    local last = kept[#kept]
    if string.byte(last, -1) == 44 then kept[#kept] = string.sub(last, 1, -2) end
    kept[#kept + 1] = bracket
  end

  -- Appends the small members of the object that begins at `i` to `kept`. Returns the object's last byte, or nil when it
  -- was not reached. `inside`: it is the message's `data`; else its own `data` is looked into, too.
  local function members(text, i, kept, inside)
    i = string.find(text, '%S', i + 1)
    if i and string.byte(text, i) == 125 then return i end
    while i and string.byte(text, i) == 34 do
      local key_end = string_end(text, i)
      local at = key_end and string.match(text, '^%s*:%s*()', key_end + 1)
      if not at then return nil end
      local key, stop = string.sub(text, i, key_end), nil
      if not inside and key == '"data"' and string.byte(text, at) == 123 then
        kept[#kept + 1] = '"data":{'
        stop = members(text, at, kept, true)
        if not stop then return nil end
        close(kept, '},')
      else
        stop = value_end(text, at)
        if not stop then return nil end
        local size = stop - i + 1
        local wanted = key == '"status"' or (not inside and (key == '"type"' or key == '"timestamp"'))
        if size <= VALUE and (wanted or keep + size <= KEEP) then
          if not wanted then keep = keep + size end
          kept[#kept + 1] = key .. ':' .. string.sub(text, at, stop) .. ','
        elseif not inside and key == '"data"' then
          kept[#kept + 1] = '"data":{},'
        end
      end
      local comma = string.match(text, '^%s*()[,}]', stop + 1)
      if not comma then return nil end
      if string.byte(text, comma) == 125 then return comma end
      i = string.find(text, '%S', comma + 1)
    end
  end

  -- A message with what is small in it. One that could not be read through is left open, and its end follows behind a
  -- byte that no JSON has: Python reads that backwards.
  local function digest(text)
    steps, keep = math.max(steps, LEAST_STEPS), 0
    local from = string.match(text, '^\239\187\191%s*(){') or string.match(text, '^%s*(){')
    if not from then return string.sub(text, 1, KEEP) end
    local kept = {'{'}
    if not members(text, from, kept, false) then
      kept[#kept + 1] = '\0'
      kept[#kept + 1] = string.sub(text, -TAIL)
    else
      close(kept, '}')
    end
    return table.concat(kept)
  end

  local kept, size, whole = {}, 0, false
  for i = 1, #fields - 1, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'message' then
      whole = #value + #name <= max_entry_bytes
      if not whole then value = digest(value) end
    elseif #name > VALUE or #value > VALUE
      or (size > KEEP and name ~= 'type' and name ~= 'status' and name ~= 'traceparent') then
      name = nil
    end
    if name then
      kept[#kept + 1] = name
      kept[#kept + 1] = value
      size = size + #name + #value
    end
  end
  return kept, size, whole
end

-- An entry too large to carry becomes {id, what is kept, size}. Returns the bytes that are left.
local function cut_one(entries, i, max_entry_bytes)
  local entry, size = entries[i], 0
  local fields = entry[2]
  for j = 1, #fields do size = size + #fields[j] end
  if size <= max_entry_bytes then return size end
  local kept, left, whole = shorten(fields, max_entry_bytes)
  entries[i] = {entry[1], kept, not whole and size or nil}
  return left + 32
end

-- The same for all of them.
local function cut(entries, max_entry_bytes)
  local total = 0
  for i = 1, #entries do total = total + cut_one(entries, i, max_entry_bytes) end
  return total
end
