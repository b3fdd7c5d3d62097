// Nothing but what all test programs share: precompiled headers (CMakeLists.txt).
