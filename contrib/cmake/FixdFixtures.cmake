# SPDX-License-Identifier: MIT
# Fixtures of fixd in CTest. They are CTest's own fixtures: built before the first test that needs them, once, and for those
# tests only.
#
#   find_package(Fixd REQUIRED)
#   fixd_fixture(corpus)                   the fixture `corpus` of fixd.ini
#   fixd_fixture(scratch CLEANUP)          given up after the last test that needs it
#   add_test(NAME lookup COMMAND lookup)
#   fixd_test(lookup FIXTURES corpus)      needs it, through libfixd
#   fixd_add_test(NAME legacy COMMAND legacy FIXTURES corpus)
#                                          finds it at its path: it is started by `fixctl run`
#   fixd_add_test(NAME api COMMAND api WITH pg)
#                                          holds `pg` while it runs, and finds its value in FIXD_FIXTURE_pg:
#                                          of a service with clones, a server that no other test has
#   fixd_fork_tests(tests)                 each case of the GoogleTest program `tests` is a fork of the template of that
#                                          name (process = exec .../tests), which has prepared once
#
# FIXD_SOCKET, when it is set, is the daemon's socket. A fixture that cannot be built fails its set-up, and CTest does not run
# the tests that need it.

# Beside the libraries that were found.
find_program(FIXCTL fixctl HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../bin")

set(_fixd_options "")
if(DEFINED FIXD_SOCKET)
  list(APPEND _fixd_options --socket "${FIXD_SOCKET}")
endif()

function(_fixd_needs_fixctl)
  if(NOT FIXCTL)
    message(FATAL_ERROR "fixctl is not installed: set FIXCTL")
  endif()
endfunction()

function(_fixd_refuse function)
  if(ARGN)
    message(FATAL_ERROR "${function}: '${ARGN}' is not known; expected what FixdFixtures.cmake says at its beginning")
  endif()
endfunction()

function(fixd_fixture name)
  cmake_parse_arguments(arg "CLEANUP" "" "" ${ARGN})
  _fixd_refuse(fixd_fixture ${arg_UNPARSED_ARGUMENTS})
  _fixd_needs_fixctl()
  add_test(NAME fixd.warm.${name} COMMAND ${FIXCTL} ${_fixd_options} warm ${name})
  set_tests_properties(fixd.warm.${name} PROPERTIES FIXTURES_SETUP ${name})
  if(arg_CLEANUP)
    add_test(NAME fixd.cleanup.${name} COMMAND ${FIXCTL} ${_fixd_options} cleanup ${name})
    set_tests_properties(fixd.cleanup.${name} PROPERTIES FIXTURES_CLEANUP ${name})
  endif()
endfunction()

function(fixd_test test)
  cmake_parse_arguments(arg "" "" "FIXTURES" ${ARGN})
  _fixd_refuse(fixd_test ${arg_UNPARSED_ARGUMENTS})
  # Beside what the test needs already.
  set_property(TEST ${test} APPEND PROPERTY FIXTURES_REQUIRED ${arg_FIXTURES})
  if(DEFINED FIXD_SOCKET)
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT "FIXD_SOCKET=${FIXD_SOCKET}")
  endif()
endfunction()

# add_test() for a command that finds the fixtures at their paths, or holds some.
#   fixd_add_test(NAME legacy COMMAND legacy --all FIXTURES corpus WITH pg redis)
function(fixd_add_test)
  # An argument of the command may have semicolons in it.
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;WORKING_DIRECTORY" "COMMAND;FIXTURES;WITH")
  _fixd_refuse(fixd_add_test ${arg_UNPARSED_ARGUMENTS})
  _fixd_needs_fixctl()
  set(around "")
  if(arg_FIXTURES OR NOT arg_WITH)
    list(APPEND around ${FIXCTL} ${_fixd_options} run)
    foreach(fixture ${arg_FIXTURES})
      list(APPEND around --fixture ${fixture})
    endforeach()
    list(APPEND around --)
  endif()
  if(arg_WITH)
    list(APPEND around ${FIXCTL} ${_fixd_options} with ${arg_WITH} --)
  endif()
  set(command "")
  foreach(argument IN LISTS arg_COMMAND)
    if(command STREQUAL "" AND TARGET "${argument}")
      set(argument $<TARGET_FILE:${argument}>)
    endif()
    string(REPLACE ";" "\\;" argument "${argument}")
    list(APPEND command "${argument}")
  endforeach()
  set(where "")
  if(arg_WORKING_DIRECTORY)
    set(where WORKING_DIRECTORY ${arg_WORKING_DIRECTORY})
  endif()
  add_test(NAME ${arg_NAME} COMMAND ${around} ${command} ${where})
  fixd_test(${arg_NAME} FIXTURES ${arg_FIXTURES})
endfunction()

set(_fixd_here "${CMAKE_CURRENT_LIST_DIR}")

# The cases of a program that calls fixd_fork_here() before it hands its arguments to GoogleTest.
#   fixd_fork_tests(tests [TEMPLATE name] [PREFIX before.] [XML directory])
function(fixd_fork_tests target)
  cmake_parse_arguments(arg "" "TEMPLATE;PREFIX;XML" "" ${ARGN})
  _fixd_refuse(fixd_fork_tests ${arg_UNPARSED_ARGUMENTS})
  _fixd_needs_fixctl()
  if(NOT arg_TEMPLATE)
    set(arg_TEMPLATE ${target})
  endif()
  if(NOT TEST fixd.warm.${arg_TEMPLATE})
    fixd_fixture(${arg_TEMPLATE})
  endif()
  set(list "${CMAKE_CURRENT_BINARY_DIR}/${target}-forks.cmake")
  set(command ${FIXCTL} ${_fixd_options} fork ${arg_TEMPLATE} --)
  add_custom_command(TARGET ${target} POST_BUILD VERBATIM BYPRODUCTS "${list}"
    COMMAND ${CMAKE_COMMAND} -D "PROGRAM=$<TARGET_FILE:${target}>" -D "TEMPLATE=${arg_TEMPLATE}" -D "PREFIX=${arg_PREFIX}"
      -D "COMMAND=${command}" -D "XML=${arg_XML}" -D "OUT=${list}" -P "${_fixd_here}/FixdForkTests.cmake")
  # Before it was built there are none.
  file(WRITE "${list}.in" "if(EXISTS [==[${list}]==])\n  include([==[${list}]==])\nelse()\n  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${list}.in")
endfunction()
