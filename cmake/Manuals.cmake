# Manual pages and completion of words in shells: the program prints them from its verbs' tables of options, and they lie in
# man/man1 and completions of the build folder. Not when the program is built for another machine.
function(voco_manuals program)
  if(CMAKE_CROSSCOMPILING)
    return()
  endif()
  set(folder ${PROJECT_BINARY_DIR})
  set(done ${folder}/man/done)
  set(script ${PROJECT_SOURCE_DIR}/cmake/PrintManuals.cmake)
  add_custom_command(OUTPUT ${done}
    COMMAND ${CMAKE_COMMAND} -DVOCO=$<TARGET_FILE:${program}> -DFOLDER=${folder} -P ${script}
    COMMAND ${CMAKE_COMMAND} -E touch ${done}
    DEPENDS ${program} ${script} VERBATIM)
  add_custom_target(voco_manuals ALL DEPENDS ${done})
  install(DIRECTORY ${folder}/man/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
  install(FILES ${folder}/completions/voco DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${folder}/completions/_voco DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endfunction()
