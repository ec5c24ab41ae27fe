-- The entry points the host calls. One call performs one attempt: values in, script, JSON text out.
--
-- A script runs in a coroutine of its own (`worker`), watched by the guard's hook; converting values is host code and
-- runs outside of it, unwatched and at full speed. Each call gets a fresh `_ENV` that falls back to the locked library.
--
-- Results of a call: the JSON text, and the log if there is one; or `false`, the error's type, message, line and
-- traceback, and the log. What goes wrong while converting is raised, and explained by `explain`.

local values, guard, library, host, max_output = ...

local load, type, next, error, rawget, tostring = load, type, next, error, rawget, tostring
local setmetatable, getmetatable, getinfo, xpcall = setmetatable, debug.getmetatable, debug.getinfo, xpcall
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local match, sub, gsub, concat, find, sort = string.match, string.sub, string.gsub, table.concat, string.find, table.sort
local pcall, pack, select, collect = pcall, table.pack, select, collectgarbage
local randomseed, decode, encode, read_only, tonumber = math.randomseed, values.decode, values.encode, values.read_only, tonumber
local attempt, take_log, begin, quoted = library.attempt, library.take_log, library.begin, values.quoted
local behind, step = values.behind, values.step

local MOST_FRAMES <const> = 20
local MOST_LEVELS <const> = 1000
local MOST_MESSAGE <const> = 8192
local MOST_NAME <const> = 80

local SCRIPT = {__index = library.script, __metatable = false}
local EXPRESSION = {__index = library.expression, __metatable = false}
local MAY_BE_NIL = {item = true, index = true, key = true, execution = true}

-- An expression sets no globals, so that a name which is nothing is a mistake.
setmetatable(library.expression, {__index = function(_, name)
  if not MAY_BE_NIL[name] then error("'" .. name .. "' is not defined", 2) end
end})

local bodies = setmetatable({}, {__mode = "k"}) -- the functions that are a whole script or module
local sets = {}    -- modules that the host keeps, by number: their code, and what it compiled to, by name
local modules, loaded, loading -- those of the call: the set, what each one returned, the names that are being loaded
local more, more_key, more_execution, more_modules, more_names -- what the host said of the next call beside its arguments

local slots = {}   -- converted values that the host keeps, by number
local current      -- the `_ENV` of the call, where a read-only value gets its name from
local pending, pending_root -- the value being encoded and its name
local frames, first_line = nil, 0 -- of the last error

guard.take_log, values.look = take_log, guard.look

---------------------------------------------------------------------------------------------------------------------
-- What is told about an error: the script's own lines only.

-- Keeps the frames of the script from `level` of the caller on.
local function note_frames(level)
  frames, first_line = nil, 0
  local list, n = {}, 0
  for at = level + 1, MOST_LEVELS do
    local info = getinfo(at, "Slnf")
    if not info then break end
    local source = info.short_src
    if source == "script" or sub(source, 1, 8) == "module '" then
      if first_line == 0 and source == "script" then first_line = info.currentline end
      n = n + 1
      if n > MOST_FRAMES then
        list[n] = "…"
        break
      end
      local called = info.name
      if called and #called > MOST_NAME then called = sub(called, 1, MOST_NAME) .. "…" end
      local where = called and "function '" .. called .. "'" or "a function"
      if bodies[info.func] then where = source == "script" and "the script" or "the module" end
      list[n] = (source == "script" and "line " or source .. ":") .. info.currentline .. ", in " .. where
    end
  end
  frames = concat(list, "\n", 1, n)
end

-- A message of a length that a record of the attempt may have.
local function cut(message)
  return #message > MOST_MESSAGE and sub(message, 1, MOST_MESSAGE) .. "…" or message
end

local function trace(message)
  if not guard.reason then note_frames(2) end
  return message
end

function guard.on_stop() note_frames(3) end

guard.trust(note_frames)
guard.trust(guard.on_stop)

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
guard.trust(serve)

local function hire()
  worker = create(serve)
  guard.worker = worker
  guard.watch(worker)
end
hire()

local function failed(kind, message, line, details)
  current, modules, loaded = nil, nil, nil
  local told = frames or ""
  frames, first_line = nil, 0
  return false, kind, message, line or 0, told, take_log(), details, guard.raised
end

-- The outcome of a script that did not return. Its error value is made a text inside the worker: that may run
-- methods of the script.
local function raised(message)
  if guard.reason then return failed(guard.reason, "", first_line) end
  if message == "not enough memory" then return failed("MemoryLimit", "") end
  local line, told = first_line, frames
  local reason, failure, details = library.failure_of(message)
  if reason then return failed(failure, cut(reason), line, details) end
  if type(message) ~= "string" then
    local kind = type(message)
    local alive, fine, text = resume(worker, described, message)
    if guard.reason or not alive then return failed(guard.reason or "MemoryLimit", "") end
    message, frames = fine and text or "error with a " .. kind .. " value", told
  end
  if #message > 2 * MOST_MESSAGE then message = sub(message, 1, 2 * MOST_MESSAGE) end
  -- Whoever writes that himself says what line it is. More digits would be no line, and no integer.
  local where, rest = match(message, "^script:(%d%d?%d?%d?%d?%d?%d?): (.*)$")
  if where then
    line, message = tonumber(where), rest
  else
    message = gsub(message, "^host:%d+: ", "")
  end
  return failed("LuaError", cut(message), line)
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
  pending, current, modules, loaded = nil, nil, nil, nil
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

local function ancestors(ids, ...)
  local real, given = {}, {...}
  for i = 1, #ids do
    if given[i] then real[ids[i]] = open(given[i]) end
  end
  return read_only(real)
end

-- The result of a node that only running the script names; nil when it has none.
local function fetched(id)
  local size = host.fetch(id)
  if size == nil then return nil end
  if not size then error("nodes" .. step("", id) .. " holds an integer outside 64 bits", 0) end
  if size < 0 then return slots[-size] end
  guard.room(3 * size)
  local fine, value = pcall(decode, (host.take()))
  if not fine then
    local problem = values.problem
    values.problem = nil
    guard.rethrow(value)
    error("nodes" .. step("", id) .. " " .. (problem or value), 0)
  end
  local slot = host.converted()
  if slot then slots[slot] = value end
  return value
end

-- `nodes`, where each result is converted when it is read.
local function any_ancestor()
  local real, complete = {}, false
  local function one(_, id)
    local value = real[id]
    if value ~= nil or complete or type(id) ~= "string" then return value end
    value = fetched(id)
    real[id] = value
    return value
  end
  return values.lazy(one, function()
    if complete then return real end
    local ordered = {}
    for i = 1, host.count() do
      guard.room(1024)
      local id = host.name(i)
      ordered[id] = one(nil, id)
    end
    real, complete = ordered, true
    return real
  end)
end

local function scope(meta, ids, inputs, env, item, index, seed, time, ...)
  begin()
  if seed then
    attempt.seed = seed
    randomseed(seed)
  end
  if time then attempt.time = time end
  local nodes
  if ids == true then
    nodes = any_ancestor()
  elseif ids then
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
  if more then
    more, current.key, current.execution = nil, more_key, more_execution and open(more_execution)
    modules, loaded, loading = more_modules and sets[more_modules], {}, {}
    if more_names then
      for name, value in next, more_names do current[name] = open(value) end
    end
  end
  return setmetatable(current, meta)
end

-- The path of a read-only value among what the script was given, by a walk of bounded length.
local function path_of(proxy)
  local queue, first, last = {}, 1, 0
  for _, name in next, {"inputs", "nodes", "item", "env", "execution"} do
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
local function compile(code, after, name)
  local alone, message = load(code, name, "t")
  if not alone then return nil, message end
  local whole
  whole, message = load("return function(_ENV, ...) " .. code .. after, name, "t")
  if not whole then return nil, message end
  local body = whole()
  bodies[body] = true
  return body
end

---------------------------------------------------------------------------------------------------------------------
-- Modules: run anew in each attempt that requires them, with globals of their own, so that nothing is left in them.

local MODULE = {__index = library.script, __metatable = false}

local function names_of(set)
  local names = {}
  for name in next, set.code do names[#names + 1] = name end
  sort(names)
  return concat(names, ", ")
end

local function compiled(name)
  if not modules then error("there is no module '" .. name .. "': the workflow has no spec.modules", 3) end
  local body = modules.compiled[name]
  if body then return body end
  local code = modules.code[name]
  if not code then error("there is no module '" .. name .. "'; there are: " .. names_of(modules), 3) end
  local message
  body, message = compile(code, "\nend", "=module '" .. name .. "'")
  if not body then error(message, 0) end
  modules.compiled[name] = body
  modules.global[name] = find(code, "_G", 1, true) ~= nil
  return body
end

local UNLOAD = {__close = function() loading[#loading] = nil end}

function library.script.require(name)
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  local known = loaded and loaded[name]
  if known ~= nil then return known end
  local body = compiled(name)
  for i = 1, #loading do
    if loading[i] == name then
      error("module '" .. name .. "' requires itself: " .. concat(loading, " → ", i) .. " → " .. name, 2)
    end
  end
  loading[#loading + 1] = name
  local unload <close> = setmetatable({}, UNLOAD)
  local env = setmetatable({}, MODULE)
  if modules.global[name] then env._G = env end
  local result = body(env, name)
  if result == nil then result = true end
  loaded[name] = result
  return result
end

---------------------------------------------------------------------------------------------------------------------

local entry = {}

-- nil and the message when `code` is not a Lua chunk.
function entry.check_script(code)
  local _, message = compile(code, "\nend", "=script")
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
-- seed, time` and the nodes of `ids` in their order. Each is nil where it is not read. `ids` is true where any node may
-- be read.
function entry.script(code, bare, global, ids)
  local body, message = compile(code, "\nend", "=script")
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
  more, modules, loaded = nil, nil, nil
  if guard.reason then return guard.reason, "", take_log(), nil, guard.raised end
  if problem then return "LuaError", "a value in scope " .. problem, take_log(), nil, nil end
  local reason, failure, details = library.failure_of(value)
  if reason then return failure, cut(reason), take_log(), details, nil end
  if not root then return nil end
  local _, told = pcall(values.locate, value, root, max_output)
  if guard.reason then return guard.reason, "", take_log(), nil, guard.raised end
  return "ResultError", cut(told), take_log(), nil, nil
end

-- What the next call finds in its scope beside its arguments: all may be nil. `names` are values by name.
function entry.more(key, execution, modules_number, names)
  more, more_key, more_execution, more_modules, more_names = true, key, execution, modules_number, names
end

-- Keeps the code of modules by name under a number; nil forgets it.
function entry.modules(number, codes)
  local set
  if codes then
    set = {code = {}, compiled = {}, global = {}}
    for name, code in next, codes do set.code[name] = code end
  end
  sets[number] = set
end

-- Bytes that the whole state may hold, and bytes of JSON that a result may have, from the next call on.
function entry.limit(memory, output)
  guard.limit, max_output = memory, output
end

function entry.collect() collect() end

-- Makes the state good again after a script was stopped.
function entry.revive()
  guard.revive()
  pending, pending_root, current, more, values.problem = nil, nil, nil, nil, nil
  hire()
  collect()
end

function entry.keep(slot, packed) slots[slot] = decode(packed) end

function entry.drop(slot) slots[slot] = nil end

---------------------------------------------------------------------------------------------------------------------
-- The console: chunks that share their globals.

local session

-- What a chunk of the console gave: each value as JSON, or as `tostring` shows it, in a line of its own.
local function shown_results(results)
  local texts = {}
  for i = 1, results.n do
    local value = results[i]
    local fine, text = pcall(encode, value, max_output)
    if not fine then guard.rethrow(text) end
    texts[i] = fine and text or library.shown(value)
  end
  return concat(texts, "\n")
end

-- A function like those of `entry.script`: its first call makes the globals, from everything in its scope. It gives the
-- results as lines.
function entry.console(code)
  local body, message = compile(code, "\nend", "=script")
  if not body then return nil, message end
  local function all(env) return shown_results(pack(body(env))) end
  return function(...)
    if session then
      begin()
      attempt.time = select(6, ...)
      if more then more, modules, loaded, loading = nil, more_modules and sets[more_modules], {}, {} end
    else
      session = scope(SCRIPT, true, ...)
      session._G = session
    end
    current = session
    local alive, ok, text = resume(worker, all, session)
    if not alive then
      hire()
      return raised(ok)
    end
    if not ok or guard.reason then return raised(text) end
    local log = take_log()
    if log then return text, log end
    return text
  end
end

local globals = _G
for name in next, globals do globals[name] = nil end

return {
  entry.script, entry.template, entry.console, entry.check_script, entry.check_expression, entry.position, entry.explain,
  entry.keep, entry.drop, entry.modules, entry.more, entry.limit, entry.collect, entry.revive,
}
