package spec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func isQuantity(f specpb.Format) bool {
	return f == specpb.Format_FORMAT_CPU || f == specpb.Format_FORMAT_MEMORY
}

// ParseCPU returns a CPU quantity in thousandths of a CPU. It fails for what is malformed, negative, finer than that, or
// above MaxCPUMillis.
func ParseCPU(text string) (millis int64, err error) {
	return parseQuantity(specpb.Format_FORMAT_CPU, text)
}

// ParseMemory returns a memory quantity in bytes. It fails for what is malformed, negative, no whole number of bytes, or
// above MaxMemoryBytes.
func ParseMemory(text string) (bytes int64, err error) {
	return parseQuantity(specpb.Format_FORMAT_MEMORY, text)
}

// FormatCPU returns the text of a CPU amount: whole CPUs as "2", others in thousandths as "500m".
func FormatCPU(millis int64) string {
	if millis%1000 == 0 {
		return strconv.FormatInt(millis/1000, 10)
	}
	return strconv.FormatInt(millis, 10) + "m"
}

var binarySuffixes = [...]string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}

// FormatMemory returns the text of a memory amount with the largest binary suffix that keeps it exact: "4Gi".
func FormatMemory(bytes int64) string {
	suffix := 0
	for suffix < len(binarySuffixes)-1 && bytes != 0 && bytes%1024 == 0 {
		bytes /= 1024
		suffix++
	}
	return strconv.FormatInt(bytes, 10) + binarySuffixes[suffix]
}

// maxExactDigits is how long a number of bytes or of a binary unit may be before RoundMemory shortens it.
const maxExactDigits = 5

// RoundMemory returns the text of a memory amount for people: exact where that is short, else rounded down to a tenth of the
// largest binary unit that it reaches: "21.1Gi".
func RoundMemory(bytes int64) string {
	exact := FormatMemory(bytes)
	if bytes < 0 || len(strings.TrimRight(exact, "KMGTPi")) <= maxExactDigits {
		return exact
	}
	suffix, unit := 0, int64(1)
	for suffix < len(binarySuffixes)-1 && bytes>>10 >= unit {
		unit <<= 10
		suffix++
	}
	whole, tenths := bytes/unit, bytes%unit*10/unit
	return strconv.FormatInt(whole, 10) + "." + strconv.FormatInt(tenths, 10) + binarySuffixes[suffix]
}

var errNoQuantity = errors.New("no quantity")

// parseQuantity wraps the Kubernetes parser, which rounds, caps and takes its time with huge exponents.
func parseQuantity(f specpb.Format, text string) (int64, error) {
	if !isQuantity(f) {
		return 0, errNoQuantity
	}
	if text == "" {
		return 0, errors.New("is empty; leave the field out to inherit, or give null to clear it")
	}
	if len(text) > MaxQuantityText || hugeExponent(text) {
		return 0, fmt.Errorf("%s is not a sensible quantity", strconv.Quote(clip(text)))
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, malformed(f, text)
	}
	if q.Sign() < 0 {
		return 0, fmt.Errorf("%q is negative", text)
	}
	if f == specpb.Format_FORMAT_CPU {
		return exactCPU(q, text)
	}
	return exactMemory(q, text)
}

func exactCPU(q resource.Quantity, text string) (int64, error) {
	if q.Cmp(*resource.NewMilliQuantity(MaxCPUMillis, resource.DecimalSI)) > 0 {
		return 0, fmt.Errorf("%q is above the largest CPU amount allowed, %s", text, FormatCPU(MaxCPUMillis))
	}
	millis := q.MilliValue()
	if q.Cmp(*resource.NewMilliQuantity(millis, resource.DecimalSI)) != 0 {
		return 0, fmt.Errorf("%q is finer than a thousandth of a CPU; did you mean %q?", text, FormatCPU(millis))
	}
	return millis, nil
}

func exactMemory(q resource.Quantity, text string) (int64, error) {
	if q.Cmp(*resource.NewQuantity(MaxMemoryBytes, resource.BinarySI)) > 0 {
		return 0, fmt.Errorf("%q is above the largest amount of memory allowed, %s", text, FormatMemory(MaxMemoryBytes))
	}
	bytes := q.Value()
	if q.Cmp(*resource.NewQuantity(bytes, resource.BinarySI)) != 0 {
		if number, ok := strings.CutSuffix(text, "m"); ok {
			return 0, fmt.Errorf("%q is a fraction of a byte (m means thousandths); did you mean %q?", text, number+"Mi")
		}
		return 0, fmt.Errorf("%q is no whole number of bytes", text)
	}
	return bytes, nil
}

// hugeExponent reports an exponent of more than two digits, with which the parser would compute for very long.
func hugeExponent(text string) bool {
	at := strings.IndexAny(text, "eE")
	if at < 0 {
		return false
	}
	digits := 0
	for _, c := range text[at+1:] {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	return digits > 2
}

func malformed(f specpb.Format, text string) error {
	form := `CPUs such as "2" or "2.5", or thousandths of one such as "500m"`
	if f == specpb.Format_FORMAT_MEMORY {
		form = `bytes, with a suffix such as in "512Mi" or "4Gi"`
	}
	if s := nearQuantity(f, text); s != "" {
		return fmt.Errorf("%q is not a quantity; did you mean %q?", text, s)
	}
	return fmt.Errorf("%q is not a quantity; give %s", text, form)
}

// nearQuantity undoes what people write instead of Kubernetes suffixes: spaces, units spelt out, wrong case.
func nearQuantity(f specpb.Format, text string) string {
	plain := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	end := strings.LastIndexAny(plain, "0123456789") + 1
	number, unit := plain[:end], plain[end:]
	if end == 0 {
		return ""
	}
	to, ok := map[specpb.Format]map[string]string{
		specpb.Format_FORMAT_CPU: {"": "", "cpu": "", "cpus": "", "core": "", "cores": "", "vcpu": "", "vcpus": "", "m": "m",
			"millis": "m", "millicores": "m"},
		specpb.Format_FORMAT_MEMORY: {"": "", "b": "", "k": "Ki", "kb": "Ki", "ki": "Ki", "kib": "Ki", "m": "Mi", "mb": "Mi",
			"mi": "Mi", "mib": "Mi", "g": "Gi", "gb": "Gi", "gi": "Gi", "gib": "Gi", "t": "Ti", "tb": "Ti", "ti": "Ti", "tib": "Ti"},
	}[f][unit]
	if !ok {
		return ""
	}
	if _, err := resource.ParseQuantity(number + to); err != nil {
		return ""
	}
	return number + to
}

// amountText returns the function that writes amounts of a format.
func amountText(f specpb.Format) func(int64) string {
	if f == specpb.Format_FORMAT_CPU {
		return FormatCPU
	}
	return FormatMemory
}

// checkQuantity says what is wrong with a quantity, "" when nothing is.
func checkQuantity(rules *specpb.FieldRules, text string, most int64) string {
	f := rules.GetFormat()
	amount, err := parseQuantity(f, text)
	format := amountText(f)
	switch {
	case err != nil:
		return err.Error()
	case amount < rules.GetMin() && amount == 0:
		return fmt.Sprintf("%q is no limit; leave the field out to inherit, or give null for none", text)
	case amount < rules.GetMin():
		return fmt.Sprintf("%q is below the smallest allowed, %s", text, format(rules.GetMin()))
	case amount > most:
		return fmt.Sprintf("%q is above the largest allowed, %s", text, format(most))
	}
	return ""
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
