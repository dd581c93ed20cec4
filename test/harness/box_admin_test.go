package harness

import "testing"

func TestSumSeries(t *testing.T) {
	const text = `# HELP a_total Of a.
a_total{x="1",y="1"} 3
a_total{x="1",y="2"} 4
a_total{x="2",y="1"} 5
a_totals 100
b 1.5
`
	for _, tt := range []struct {
		name   string
		labels []string
		sum    float64
		ok     bool
	}{
		{"a_total", nil, 12, true},
		{"a_total", []string{`x="1"`}, 7, true},
		{"a_total", []string{`x="1"`, `y="2"`}, 4, true},
		{"a_total", []string{`x="3"`}, 0, false},
		{"b", nil, 1.5, true},
		{"c", nil, 0, false},
	} {
		if sum, ok, err := sumSeries(text, tt.name, tt.labels...); sum != tt.sum || ok != tt.ok || err != nil {
			t.Errorf("%s %v: %v, %v, %v", tt.name, tt.labels, sum, ok, err)
		}
	}
	if _, _, err := sumSeries("a x\n", "a"); err == nil {
		t.Error("no error for a value that is no number")
	}
}
