-- Code that is hard to compile. A script that is none must not hold up whoever compiles it.

--# parentheses
--  Tries: to have the compiler recurse.
--  Ends: LuaSyntaxError
return ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1

--# bytecode
--  Tries: to have bytecode run.
--  Ends: LuaSyntaxError
LuaU

--# closing what it is put into
--  Tries: to end the function that a script is put into, and to begin another one.
--  Ends: LuaSyntaxError
return 1 end, function() return 2

--# an end that is none
--  Tries: to hide the end in a comment.
--  Ends: LuaSyntaxError
return 1 --[[

--# a label outside
--  Tries: to jump out of the script.
--  Ends: LuaSyntaxError
goto outside

--# break outside
--  Tries: to break out of what is around.
--  Ends: LuaSyntaxError
break

--# an attribute that is none
--  Tries: to have the compiler close what cannot be closed.
--  Ends: LuaSyntaxError
local x <closed> = 1

--# a constant that is written
--  Tries: to change a constant.
--  Ends: LuaSyntaxError
local x <const> = 1
x = 2
