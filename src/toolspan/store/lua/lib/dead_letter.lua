-- Copy an entry into the dead letters inside Redis, so that no client can lose a byte of it.
local MAX_COPIED_VALUES = 1000

-- Returns what XADD returned, an error table included: then nothing was written.
local function bury(dead_letters, original, about)
  local letter = {}
  local whole = #original > MAX_COPIED_VALUES
  for i = 1, #original, 2 do
    whole = whole or string.sub(original[i], 1, 4) == 'dlq.'
  end
  if whole then
    letter = { 'dlq.raw', cmsgpack.pack(original) }
  else
    for i, part in ipairs(original) do
      letter[i] = part
    end
  end
  for _, part in ipairs(about) do
    letter[#letter + 1] = part
  end
  return redis.pcall('XADD', dead_letters, '*', unpack(letter))
end
