package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// NotFoundError is a Source's: something that was named is not there. The client is
// told.
type NotFoundError string

// Error is the text for the client.
func (e NotFoundError) Error() string { return string(e) }

// InvalidError is a Source's: something that was given means nothing. The client is
// told.
type InvalidError string

// Error is the text for the client.
func (e InvalidError) Error() string { return string(e) }

// refused makes a reply of a Source's error.
func refused(err error) error {
	var missing NotFoundError
	var invalid InvalidError
	switch {
	case errors.As(err, &missing):
		return &refusal{http.StatusNotFound, err.Error()}
	case errors.As(err, &invalid):
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	return &refusal{http.StatusConflict, err.Error()}
}

// maxNames bounds the names that Unknown lists.
const maxNames = 8

// Unknown is the error that there is no kind called name among all, which are those
// in a place; "" is everywhere. It says which are near, or which there are.
func Unknown(kind, name, place string, all []string) error {
	text := fmt.Sprintf("there is no %s %.100q", kind, name)
	if place != "" {
		text += " in " + place
	}
	var similar []string
	for _, x := range all {
		if near(name, x) {
			similar = append(similar, fmt.Sprintf("%q", x))
		}
	}
	switch n := len(all); {
	case len(similar) > 0:
		text += ", did you mean " + strings.Join(similar[:min(len(similar), maxNames)], " or ") + "?"
	case n == 0:
		text += ": there is none"
	case n <= maxNames:
		text += ": there is " + strings.Join(all, ", ")
	default:
		text += fmt.Sprintf(": there is %s and %d more", strings.Join(all[:maxNames], ", "), n-maxNames)
	}
	return NotFoundError(text)
}

// near tells whether a may have been typed for b: two edits away and less than half
// of it, or a part of it.
func near(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a != "" && strings.Contains(b, a) {
		return true
	}
	d := distance(a, b)
	return d <= 2 && 2*d < max(len(a), len(b))
}

// distance is how many bytes must be put in, taken out or changed to make b of a
// (Levenshtein). Long names have none: they are hostile.
func distance(a, b string) int {
	const longest = 256
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1) // distances from a's first i bytes to b's first k
	for k := range row {
		row[k] = k
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for k := range len(b) {
			cost := 1
			if a[i] == b[k] {
				cost = 0
			}
			diagonal, row[k+1] = row[k+1], min(row[k+1]+1, row[k]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
