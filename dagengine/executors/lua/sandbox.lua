-- The entry points the host calls. One call performs one attempt: values in, script, JSON text out.
--
-- A script runs in a coroutine of its own (`worker`), watched by the guard's hook; converting values is host code and
-- runs outside of it, unwatched and at full speed. Each call gets a fresh `_ENV` that falls back to the locked library.
--
-- Results of a call: the JSON text, and the log if there is one; or `false`, the error's type, message, line and
-- traceback, and the log. What goes wrong while converting is raised, and explained by `explain`.

local values, guard, library, max_output = ...

local load, type, next, error, rawget, tostring = load, type, next, error, rawget, tostring
local setmetatable, getmetatable, getinfo, xpcall = setmetatable, debug.getmetatable, debug.getinfo, xpcall
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local match, sub, gsub, concat = string.match, string.sub, string.gsub, table.concat
local randomseed, decode, encode, read_only, tonumber = math.randomseed, values.decode, values.encode, values.read_only, tonumber
local attempt, take_log, begin, quoted = library.attempt, library.take_log, library.begin, values.quoted
local behind, step = values.behind, values.step

local MOST_FRAMES <const> = 20
local MOST_LEVELS <const> = 1000
local MOST_MESSAGE <const> = 8192

local SCRIPT = {__index = library.script, __metatable = false}
local EXPRESSION = {__index = library.expression, __metatable = false}
local MAY_BE_NIL = {item = true, index = true}

-- An expression sets no globals, so that a name which is nothing is a mistake.
setmetatable(library.expression, {__index = function(_, name)
  if not MAY_BE_NIL[name] then error("'" .. name .. "' is not defined", 2) end
end})

local slots = {}   -- converted values that the host keeps, by number
local current      -- the `_ENV` of the call, where a read-only value gets its name from
local pending, pending_root -- the value being encoded and its name
local frames, first_line = nil, 0 -- of the last error

guard.take_log = take_log

---------------------------------------------------------------------------------------------------------------------
-- What is told about an error: the script's own lines only.

-- Keeps the frames of the script from `level` of the caller on.
local function note_frames(level)
  frames, first_line = nil, 0
  local list, n = {}, 0
  for at = level + 1, MOST_LEVELS do
    local info = getinfo(at, "Sln")
    if not info then break end
    if info.short_src == "script" then
      if first_line == 0 then first_line = info.currentline end
      n = n + 1
      if n > MOST_FRAMES then
        list[n] = "…"
        break
      end
      local where = info.name and "function '" .. info.name .. "'" or "a function"
      if info.linedefined <= 1 and not info.name then where = "the script" end
      list[n] = "line " .. info.currentline .. ", in " .. where
    end
  end
  frames = concat(list, "\n", 1, n)
end

local function trace(message)
  if not guard.reason then note_frames(2) end
  return message
end

function guard.on_stop() note_frames(3) end

local function described(message)
  if type(message) == "string" then return message end
  if message == nil then return "error without a message" end
  if type(message) == "table" then
    local inner = message.message
    if type(inner) == "string" then return inner end
    local meta = getmetatable(message)
    if not (meta and rawget(meta, "__tostring")) then return encode(message, max_output) end
  end
  return library.shown(message)
end

---------------------------------------------------------------------------------------------------------------------
-- The coroutine that scripts run in.

local worker

local function serve(body, argument)
  while true do body, argument = yield(xpcall(body, trace, argument)) end
end

local function hire()
  worker = create(serve)
  guard.worker = worker
  guard.watch(worker)
end
hire()

local function failed(kind, message, line)
  current = nil
  local told = frames or ""
  frames, first_line = nil, 0
  return false, kind, message, line or 0, told, take_log()
end

-- The outcome of a script that did not return. Its error value is made a text inside the worker: that may run
-- methods of the script.
local function raised(message)
  if guard.reason then return failed(guard.reason, "", first_line) end
  if message == "not enough memory" then return failed("MemoryLimit", "") end
  local line, told = first_line, frames
  if type(message) ~= "string" then
    local kind = type(message)
    local alive, fine, text = resume(worker, described, message)
    if guard.reason or not alive then return failed(guard.reason or "MemoryLimit", "") end
    message, frames = fine and text or "error with a " .. kind .. " value", told
  end
  local where, rest = match(message, "^script:(%d+): (.*)$")
  if where then
    line, message = tonumber(where), rest
  else
    message = gsub(message, "^host:%d+: ", "")
  end
  if #message > MOST_MESSAGE then message = sub(message, 1, MOST_MESSAGE) .. "…" end
  return failed("LuaError", message, line)
end

local function returned(alive, ok, result, second)
  if not alive then
    hire()
    return raised(ok)
  end
  if not ok or guard.reason then return raised(result) end
  if second ~= nil then return failed("ResultError", "the script returned several values; return one table") end
  pending, pending_root = result, "result"
  local text = encode(result, max_output)
  pending, current = nil, nil
  local log = take_log()
  if log then return text, log end
  return text
end

---------------------------------------------------------------------------------------------------------------------
-- What a script finds in its `_ENV`. Values arrive as MessagePack, or as the number of a slot that holds one converted.

local function open(value)
  if type(value) == "number" then return slots[value] end
  return decode(value)
end

local function ancestors(ids, nodes, ...)
  local real = {}
  if type(nodes) == "table" then
    for id, value in next, nodes do real[id] = open(value) end
    return read_only(real)
  end
  local given = {nodes, ...}
  for i = 1, #ids do
    if given[i] then real[ids[i]] = open(given[i]) end
  end
  return read_only(real)
end

local function scope(meta, ids, inputs, env, item, index, seed, time, ...)
  begin()
  if seed then
    attempt.seed = seed
    randomseed(seed)
  end
  if time then attempt.time = time end
  local nodes
  if ids then
    if #ids == 1 then
      local given = ...
      nodes = read_only({[ids[1]] = given and open(given)})
    else
      nodes = ancestors(ids, ...)
    end
  end
  current = {
    inputs = inputs and open(inputs),
    nodes = nodes,
    env = env and open(env),
    item = item and open(item),
    index = index,
  }
  return setmetatable(current, meta)
end

-- The path of a read-only value among what the script was given, by a walk of bounded length.
local function path_of(proxy)
  local queue, first, last = {}, 1, 0
  for _, name in next, {"inputs", "nodes", "item", "env"} do
    local root = current and rawget(current, name)
    if root ~= nil and behind(root) then
      last = last + 1
      queue[last] = {root, name}
    end
  end
  while first <= last and last < 100000 do
    local value, path = queue[first][1], queue[first][2]
    if value == proxy then return path end
    first = first + 1
    for key, inner in next, (behind(value)) do
      if behind(inner) then
        last = last + 1
        queue[last] = {inner, step(path, key)}
      end
    end
  end
end

function values.describe_write(proxy, key)
  local path = library.name_of(proxy) or path_of(proxy)
  if not path then return "attempt to modify a read-only value" end
  return "attempt to modify a read-only value (" .. step(path, key) .. ")"
end

---------------------------------------------------------------------------------------------------------------------
-- Code → functions that the host calls.

-- The `_ENV` parameter is what makes every call's globals its own. The code is first compiled alone, so that it cannot
-- close the function it is put into.
local function compile(code, before, after)
  local alone, message = load(code, "=script", "t")
  if not alone then return nil, message end
  local whole
  whole, message = load("return function(_ENV, ...) " .. before .. code .. after, "=script", "t")
  if not whole then return nil, message end
  return whole()
end

local entry = {}

-- nil and the message when `code` is not a Lua chunk.
function entry.check_script(code)
  local _, message = compile(code, "", "\nend")
  return message
end

-- nil and the message when `code` is not one Lua expression.
function entry.check_expression(code)
  local alone, message = load("return " .. code, "=script", "t")
  if not alone then return message end
  _, message = load("return (" .. code .. "\n)", "=script", "t")
  return message
end

-- A function of no arguments for a script that reads nothing of its scope; otherwise one of `inputs, env, item, index,
-- seed, time` and the nodes of `ids` in their order, or one table of nodes by id. Each is nil where it is not read.
function entry.script(code, bare, global, ids)
  local body, message = compile(code, "", "\nend")
  if not body then return nil, message end
  if bare then
    return function()
      begin()
      return returned(resume(worker, body, setmetatable({}, SCRIPT)))
    end
  end
  return function(...)
    local env = scope(SCRIPT, ids, ...)
    if global then env._G = env end
    return returned(resume(worker, body, env))
  end
end

-- A value inside a text.
local function inserted(value)
  local kind = type(value)
  if kind == "string" then return sub(quoted(value), 2, -2) end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  if value == nil or value == values.null then return "null" end
  return sub(quoted(encode(value, max_output)), 2, -2)
end

local position -- of the expression being evaluated, for whoever reports its error

-- A function like those of `entry.script` for a template: `modes` has one character for each of `parts`: `l` JSON text as
-- it is, `j` an expression whose value is written as JSON, `t` one whose value is put into the text around it.
function entry.template(modes, parts, ids)
  local functions = {}
  for i = 1, #modes do
    if sub(modes, i, i) ~= "l" then
      local message = entry.check_expression(parts[i])
      if message then return nil, message, i end
      functions[i] = load("return function(_ENV) return (" .. parts[i] .. "\n) end", "=script", "t")()
    end
  end
  local function body(env)
    local results = {}
    for i, evaluate in next, functions do
      position = i
      results[i] = evaluate(env)
    end
    return results
  end
  local function written(alive, ok, results)
    if not alive then hire() end
    if not alive or not ok or guard.reason then
      frames = nil -- of no use for a single expression
      if alive then return raised(results) end
      return raised(ok)
    end
    local texts = {}
    for i = 1, #modes do
      local mode = sub(modes, i, i)
      position, pending, pending_root = i, results[i], "value"
      texts[i] = mode == "l" and parts[i] or mode == "j" and encode(pending, max_output) or inserted(pending)
    end
    pending, current = nil, nil
    return concat(texts)
  end
  return function(...) return written(resume(worker, body, scope(EXPRESSION, ids, ...))) end
end

-- The part of the template that the last error came from.
function entry.position() return position end

-- What the last raised error was about: type and message; nil when it was none of ours.
function entry.explain()
  local value, root, problem = pending, pending_root, values.problem
  pending, pending_root, current, values.problem = nil, nil, nil, nil
  if problem then return "LuaError", "a value in scope " .. problem, take_log() end
  if root then return "ResultError", values.locate(value, root, max_output), take_log() end
end

function entry.keep(slot, packed) slots[slot] = decode(packed) end

function entry.drop(slot) slots[slot] = nil end

local globals = _G
for name in next, globals do globals[name] = nil end

return entry.script, entry.template, entry.check_script, entry.check_expression, entry.position, entry.explain, entry.keep, entry.drop
