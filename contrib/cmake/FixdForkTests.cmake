# SPDX-License-Identifier: MIT
# A script (cmake -P) of fixd_fork_tests(), after the program was linked: its cases of GoogleTest, each as a test of CTest.
# Takes PROGRAM, PREFIX (of the names), COMMAND (before the arguments of the case), XML (a directory, or nothing), OUT.

# It is asked for its cases as a plain program: no daemon need be there when it is built.
execute_process(COMMAND ${CMAKE_COMMAND} -E env FIXD_DISABLE=1 "${PROGRAM}" --gtest_list_tests OUTPUT_VARIABLE list RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${PROGRAM} --gtest_list_tests: ${failed}")
endif()

# A suite ends with '.', its cases are indented; "  # " begins what GoogleTest says of a parameter: any text, of which a bracket would keep
# CMake from seeing where its lines end.
string(REGEX REPLACE " *#[^\n]*" "" list "${list}")
string(REPLACE "\n" ";" list "${list}")
set(tests "")
foreach(line IN LISTS list)
  if(line MATCHES "^[^ ].*\\.$")
    set(suite "${line}")
  elseif(line MATCHES "^  [^ ]")
    string(STRIP "${line}" name)
    set(arguments "--gtest_filter=${suite}${name}" --gtest_also_run_disabled_tests)
    if(XML)
      string(REPLACE "/" "_" file "${suite}${name}")
      list(APPEND arguments "--gtest_output=xml:${XML}/${file}.xml")
    endif()
    set(words "")
    foreach(word IN LISTS COMMAND arguments)
      string(APPEND words " [==[${word}]==]")
    endforeach()
    string(APPEND tests "add_test([==[${PREFIX}${suite}${name}]==]${words})\n")
    if(suite MATCHES "^DISABLED_|/DISABLED_" OR name MATCHES "^DISABLED_")
      string(APPEND tests "set_tests_properties([==[${PREFIX}${suite}${name}]==] PROPERTIES DISABLED TRUE)\n")
    else()
      string(APPEND tests "set_tests_properties([==[${PREFIX}${suite}${name}]==] PROPERTIES FIXTURES_REQUIRED [==[${TEMPLATE}]==] SKIP_REGULAR_EXPRESSION [==[\\[  SKIPPED \\]]==])\n")
    endif()
  endif()
endforeach()
file(WRITE "${OUT}" "${tests}")
