# Install rules: the headers, the libraries, the CMake package `kin` (targets kin::kin and, component uv, kin::uv) and the
# pkg-config modules `kin` and `kin-uv`.
include(CMakePackageConfigHelpers)

set(kin_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/kin")

install(
  TARGETS kin kin_uv
  EXPORT kinTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(FILES "${kin_SOURCE_DIR}/include/kin.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(
  DIRECTORY "${kin_SOURCE_DIR}/include/kin"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING
  PATTERN "*.h")

install(
  EXPORT kinTargets
  NAMESPACE kin::
  DESTINATION "${kin_cmake_dir}")
configure_package_config_file("${kin_SOURCE_DIR}/cmake/kinConfig.cmake.in" "${kin_BINARY_DIR}/kinConfig.cmake"
                              INSTALL_DESTINATION "${kin_cmake_dir}")
write_basic_package_version_file("${kin_BINARY_DIR}/kinConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${kin_BINARY_DIR}/kinConfig.cmake" "${kin_BINARY_DIR}/kinConfigVersion.cmake"
              "${kin_SOURCE_DIR}/cmake/FindLibuv.cmake" "${kin_SOURCE_DIR}/cmake/FindMbedTLS.cmake" DESTINATION "${kin_cmake_dir}")

# pkg-config. libuv and Mbed TLS by their modules where they have one, else by their libraries.
set(kin_pc_requires "${Libuv_PKG_CONFIG}")
set(kin_pc_libs "")
if(NOT Libuv_PKG_CONFIG)
  if(WIN32)
    set(kin_pc_libs "-luv_a -lpsapi -luser32 -liphlpapi -luserenv -lws2_32 -ldbghelp -lole32 -lshell32")
  else()
    set(kin_pc_libs "-luv")
  endif()
endif()
if(KIN_HAS_AUTH)
  if(MbedTLS_PKG_CONFIG)
    string(APPEND kin_pc_requires " ${MbedTLS_PKG_CONFIG}")
  else()
    string(APPEND kin_pc_libs " -lmbedcrypto")
  endif()
endif()
foreach(library IN LISTS kin_system_libraries)
  if(library MATCHES "^-")
    string(APPEND kin_pc_libs " ${library}")
  else()
    string(APPEND kin_pc_libs " -l${library}")
  endif()
endforeach()
string(STRIP "${kin_pc_libs}" kin_pc_libs)
# The prefix from where the file lies, so that the installed tree can be moved.
cmake_path(SET kin_pc_dir NORMALIZE "/${CMAKE_INSTALL_LIBDIR}/pkgconfig")
cmake_path(RELATIVE_PATH kin_pc_dir BASE_DIRECTORY "/" OUTPUT_VARIABLE kin_pc_dir)
string(REGEX REPLACE "[^/]+" ".." kin_pc_up "${kin_pc_dir}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(kin_pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  set(kin_pc_prefix "\${pcfiledir}/${kin_pc_up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(kin_pc_${dir} "${CMAKE_INSTALL_${dir}}")
  else()
    set(kin_pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
configure_file("${kin_SOURCE_DIR}/cmake/kin.pc.in" "${kin_BINARY_DIR}/kin.pc" @ONLY)
# The adapter: its users call libuv themselves.
set(kin_uv_pc_libs "")
if(NOT Libuv_PKG_CONFIG)
  set(kin_uv_pc_libs " ${kin_pc_libs}")
endif()
configure_file("${kin_SOURCE_DIR}/cmake/kin-uv.pc.in" "${kin_BINARY_DIR}/kin-uv.pc" @ONLY)
install(FILES "${kin_BINARY_DIR}/kin.pc" "${kin_BINARY_DIR}/kin-uv.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
