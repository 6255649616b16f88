-- What the fields of an entry say of its call: its tool, and its deadline in ms; nil where that cannot be read.
local function called(fields)
  local values = {}
  for i = 1, #fields, 2 do
    values[fields[i]] = fields[i + 1]
  end
  if not values.tool then
    local _, payload = pcall(cjson.decode, values.payload)
    values = type(payload) == 'table' and payload or {}
  end
  return values.tool, tonumber(values.deadline)
end
