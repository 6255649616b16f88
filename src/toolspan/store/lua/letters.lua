-- Read dead letters; one that was kept whole is unpacked here, where it was packed.
--
-- KEYS[1] dead_letters
-- ARGV[1] first     id to begin at, or `-`
-- ARGV[2] last      id to end at, or `+`
-- ARGV[3] count
--
-- Returns for each: { id, fields, the original fields if it was kept whole (nil if they cannot be unpacked) }.

local dead_letters = KEYS[1]
local first, last, count = ARGV[1], ARGV[2], ARGV[3]

local letters = {}
for _, entry in ipairs(redis.call('XRANGE', dead_letters, first, last, 'COUNT', count)) do
  local letter = { entry[1], entry[2] }
  if entry[2][1] == 'dlq.raw' then
    local unpacked, original = pcall(cmsgpack.unpack, entry[2][2])
    letter[3] = unpacked and type(original) == 'table' and original
  end
  letters[#letters + 1] = letter
end
return letters
