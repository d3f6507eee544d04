/*
 * geometry.h
 *	  PostGIS points with four coordinates, in and out of C.
 */
#ifndef HART_GEOMETRY_H
#define HART_GEOMETRY_H

#include "hartonomous.h"

/* whether a value of type geometry is a point, with whatever coordinates */
extern bool hart_is_point(Datum geometry);

/* The coordinates of a value of type geometry; false when it lacks one of the four, an error when it is no point */
extern bool hart_point_of_geometry(Datum geometry, double p[4]);

/* A point as a value of type geometry, SRID 0 */
extern Datum hart_geometry_of_point(const double p[4]);

#endif							/* HART_GEOMETRY_H */
