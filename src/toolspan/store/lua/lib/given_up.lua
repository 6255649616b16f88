-- Note of claimed entries whether their calls were given up, in place nine as 1 or 0.
-- Those that do not say their call id in a field of its own are left to the worker, which can read what they are.
local function look_up(cancels, claimed)
  local asked, names = {}, {}
  for _, one in ipairs(claimed) do
    local fields = one[4]
    for i = 1, #fields, 2 do
      if fields[i] == 'id' then
        asked[#asked + 1], names[#names + 1] = one, cancels .. fields[i + 1]
        break
      end
    end
  end
  if #names > 0 then
    for i, found in ipairs(redis.call('MGET', unpack(names))) do
      local one = asked[i]
      one[9] = found and 1 or 0
    end
  end
end
