package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// sheet is a table with a heading. A title that begins with ">" has its column
// aligned to the right.
type sheet struct {
	titles []string
	rows   [][]string
}

func newSheet(titles ...string) *sheet { return &sheet{titles: titles} }

// add adds a row of as many cells as there are titles.
func (s *sheet) add(cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	s.rows = append(s.rows, cells)
}

// write writes the table. tabwriter aligns all columns alike, so that those to
// the right get their blanks here.
func (s *sheet) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	widths := make([]int, len(s.titles))
	right := make([]bool, len(s.titles))
	head := make([]string, len(s.titles))
	for i, t := range s.titles {
		head[i], right[i] = strings.CutPrefix(t, ">")
	}
	all := append([][]string{head}, s.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range all {
		cells := make([]string, len(row))
		for i, cell := range row {
			if right[i] {
				cell = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + cell
			}
			cells[i] = cell
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// String is the table as text.
func (s *sheet) String() string {
	var b strings.Builder
	s.write(&b) // a Builder takes everything
	return b.String()
}

// facts is a list of names with values.
type facts [][2]string

func (f facts) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, x := range f {
		fmt.Fprintf(tw, "%s\t%s\n", x[0], printable(x[1]))
	}
	return tw.Flush()
}
