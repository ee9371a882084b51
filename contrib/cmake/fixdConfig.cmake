# SPDX-License-Identifier: MIT
# find_package(fixd): the target fixd::fixd, and fixtures in CTest (FixdFixtures.cmake).
find_package(PkgConfig REQUIRED)
pkg_check_modules(fixd REQUIRED IMPORTED_TARGET fixd)
if(NOT TARGET fixd::fixd)
  add_library(fixd::fixd INTERFACE IMPORTED)
  set_target_properties(fixd::fixd PROPERTIES INTERFACE_LINK_LIBRARIES PkgConfig::fixd)
endif()
include("${CMAKE_CURRENT_LIST_DIR}/FixdFixtures.cmake")
