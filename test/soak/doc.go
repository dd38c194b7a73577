// Package soak holds a test of the real programs, a server and a runner beside it, which are killed at random while callers use sandboxes through them. Callers do what
// careful ones do: what was cut is taken up again where it was, what may have been done is looked for before it is done again. In the
// end nothing may be lost, left behind, or told that was not so.
package soak
