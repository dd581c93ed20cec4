package http1
import ("testing";"belay/internal/header";"bytes")
var sink int
func BenchmarkZskipText(b *testing.B){ buf:=[]byte(typical); for b.Loop(){ i:=0; for i<len(buf){ i=skipText(buf,i)+2; sink+=i } } }
func BenchmarkZskipLetters(b *testing.B){ buf:=[]byte(typical); var st []int; for i:=0;i+1<len(buf);i++{ if buf[i]=='\n'{st=append(st,i+1)}}; b.ResetTimer(); for b.Loop(){ for _,s:=range st{ sink+=skipLetters(buf,s)} } }
func BenchmarkZindexByte(b *testing.B){ buf:=[]byte(typical); for b.Loop(){ i:=0; for i<len(buf){ i+=bytes.IndexByte(buf[i:],'\r')+2; sink+=i } } }
func BenchmarkZadd(b *testing.B){ buf:=[]byte(typical); var r Request; r.Parse(buf,&shipped); type q struct{a,b,c,d int}; var qs []q
 i:=bytes.IndexByte(buf,'\n')+1
 for buf[i]!='\r' { c:=bytes.IndexByte(buf[i:],':'); e:=bytes.IndexByte(buf[i:],'\r'); qs=append(qs,q{i,c,i+c+2,e-c-2}); i+=e+2}
 var m header.Map; m.SetLimits(shipped.Header)
 for b.Loop(){ m.Reset(buf); for _,x:=range qs { m.AddField(x.a,x.b,x.c,x.d)} } }
func BenchmarkZline(b *testing.B){ buf:=[]byte(typical); var r Request; for b.Loop(){ r.Reset(); r.Rebase(buf); r.parseLine(buf,&shipped)}}
func BenchmarkZfields(b *testing.B){ buf:=[]byte(typical); var r Request; r.Parse(buf,&shipped); p:=bytes.IndexByte(buf,'\n')+1;  for b.Loop(){ r.Header.Reset(buf); r.fields.begin(p,shipped.Header); for { h,_:=r.fields.next(buf,&r.Header); if h==fieldEnd {break} } }}
