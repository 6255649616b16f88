-- Read dead letters; one that was kept whole is unpacked here, where it was packed.
--
-- KEYS[1] dead_letters
-- ARGV[1] first     id to begin at, `(` in front of one to begin behind, or `-`
-- ARGV[2] last      id to end at, or `+`
-- ARGV[3] count     how many at most
-- ARGV[4] bytes     none more once those that were read have so many together
--
-- Returns for each: { id, fields, the original fields if it was kept whole (nil if they cannot be unpacked) }; nothing
-- when there is none left.

local dead_letters = KEYS[1]
local first, last, count, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local letters, read = {}, 0
while #letters < count and read < bytes do
  -- One by one: how large a letter is shows only when it is read.
  local entry = redis.call('XRANGE', dead_letters, first, last, 'COUNT', 1)[1]
  if not entry then
    break
  end
  local letter = { entry[1], entry[2] }
  for _, part in ipairs(entry[2]) do
    read = read + #part
  end
  if entry[2][1] == 'dlq.raw' then
    local _, original = pcall(cmsgpack.unpack, entry[2][2])
    letter[3] = type(original) == 'table' and original
  end
  letters[#letters + 1] = letter
  first = '(' .. entry[1]
end
return letters
