#include "weights_fdw.h"
void hart_modify_routines(FdwRoutine *routine) { (void) routine; }
