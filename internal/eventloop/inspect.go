package eventloop

// ListensAt is the address at which a listening stream socket listens; any other
// descriptor is an error. fd stays the caller's.
func ListensAt(fd int) (Address, error) {
	in, _, err := inspect(fd)
	return in.Address, err
}
