# SPDX-License-Identifier: MIT
# find_package(Fixd): the targets Fixd::fixd (libfixd, for tests, with libfixd-free) and Fixd::builder (libfixd-builder, for plugins),
# and fixtures in CTest (FixdFixtures.cmake). It is found as fixd, too.

get_filename_component(_fixd_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_fixd_libraries "${_fixd_prefix}/lib/${CMAKE_LIBRARY_ARCHITECTURE}" "${_fixd_prefix}/lib" "${_fixd_prefix}/lib64")

find_path(FIXD_INCLUDE_DIR fixd.h HINTS "${_fixd_prefix}/include")
foreach(_fixd_name fixd fixd-free fixd-builder)
  string(TOUPPER "${_fixd_name}" _fixd_variable)
  string(REPLACE "-" "_" _fixd_variable "${_fixd_variable}_LIBRARY")
  find_library(${_fixd_variable} ${_fixd_name} HINTS ${_fixd_libraries})
  if(NOT ${_fixd_variable} OR NOT FIXD_INCLUDE_DIR)
    set(${CMAKE_FIND_PACKAGE_NAME}_FOUND FALSE)
    set(${CMAKE_FIND_PACKAGE_NAME}_NOT_FOUND_MESSAGE "lib${_fixd_name} or its header is not installed below ${_fixd_prefix}")
    return()
  endif()
  mark_as_advanced(${_fixd_variable} FIXD_INCLUDE_DIR)
endforeach()

if(NOT TARGET Fixd::fixd)
  add_library(Fixd::fixd SHARED IMPORTED)
  set_target_properties(Fixd::fixd PROPERTIES
    IMPORTED_LOCATION "${FIXD_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${FIXD_INCLUDE_DIR}"
    # free() and operator delete that know views: nothing refers to them by name.
    INTERFACE_LINK_OPTIONS "LINKER:--push-state,--no-as-needed,${FIXD_FREE_LIBRARY},--pop-state")
  add_library(Fixd::builder SHARED IMPORTED)
  set_target_properties(Fixd::builder PROPERTIES
    IMPORTED_LOCATION "${FIXD_BUILDER_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${FIXD_INCLUDE_DIR}")
  add_library(fixd::fixd INTERFACE IMPORTED)
  set_target_properties(fixd::fixd PROPERTIES INTERFACE_LINK_LIBRARIES Fixd::fixd)
endif()

include("${CMAKE_CURRENT_LIST_DIR}/FixdFixtures.cmake")
