package resolve

// Position returns the place among Inputs of the layer that o, an origin of one of r's values or shadows, belongs to; -1
// for any other origin. It compares pointers: two layers may come from one object.
func (r *Resolved) Position(o *Origin) int {
	for i, in := range r.inputs {
		if o == &in.Origin {
			return i
		}
	}
	return -1
}
